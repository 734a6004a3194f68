"""What the flow asks of a velocity model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class VelocityModel(Protocol):
    """A velocity field v(x_t, t | z, feedback), called as `policy` (x = a) and as `dynamics` (x = s)."""

    def __call__(
        self,
        x_t: Float[Tensor, "B *x"],
        t: Float[Tensor, "B"],
        context: Float[Tensor, "B D"],
        feedback: Float[Tensor, "B *y"] | None = None,
        present: Bool[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B *x"]:
        """The velocity at `x_t`.

        Args:
            x_t: flow sample of the chunk `[B, H, A]` or of the outcome `[B, S]`.
            t: flow time, 1 at noise and 0 at data.
            context: encoding z of the observation now.
            feedback: the other model's estimate of its final sample; None shows the null token to every row.
            present: rows where it is False see the null token; None means every row sees `feedback`.
        """
        ...
