"""What the flow asks of a velocity model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class VelocityModel(Protocol):
    """A velocity field v(x_t, t | z, feedback), used as `policy` (x = a) and as `dynamics` (x = s).

    It comes in two parts, since most of what a step asks does not depend on the flow sample: `condition` is
    called once for all K steps of a generation, the model itself once a step.
    """

    def condition(
        self,
        t: Float[Tensor, "*n"],
        context: Float[Tensor, "B D"],
        feedback_time: Float[Tensor, "*n"] | None = None,
    ) -> Float[Tensor, "*m C"]:
        """What of the velocity depends on times and observation alone.

        Args:
            t: flow time, 1 at noise and 0 at data: `[B]`, or `[K, 1]` for the K steps of a generation.
            context: encoding z of the observation now.
            feedback_time: the flow time at which the feedback was estimated, 0 for the real thing; given to the
                dynamics, not to the policy.

        Returns:
            `[B, C]`, or `[K, B, C]`.
        """
        ...

    def __call__(
        self,
        x_t: Float[Tensor, "B *x"],
        t: Float[Tensor, "B"] | float,
        condition: Float[Tensor, "B C"],
        feedback: Float[Tensor, "B *y"] | None = None,
        present: Bool[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B *x"]:
        """The velocity at `x_t`.

        Args:
            x_t: flow sample of the chunk `[B, H, A]` or of the outcome `[B, S]`.
            t: flow time; a number is the time of all rows.
            condition: what `condition` returned for this time.
            feedback: the other model's estimate of its final sample; None shows the null token to every row.
            present: rows where it is False see the null token; None means every row sees `feedback`.
        """
        ...
