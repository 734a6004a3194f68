"""What a plan looked like from inside: how far it moved while it was made, and whether what it expected came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Diagnostics:
    """Of one control step, a number a row of the batch."""

    chunk_moved: Float[Tensor, "steps B"]
    """Root mean square change of the estimated chunk from each flow step to the next, in normalised actions, when the
    chunk under way was planned; K - 1 rows. Small from the start: the policy had made up its mind before the dynamics
    said anything."""
    outcome_error: Float[Tensor, "B"] | None
    """Root mean square distance between the observation now and what an earlier plan expected of now, in standardised
    dimensions (about 1.4 for two unrelated ones). None where no plan expected anything of this step."""


class Expectations:
    """What plans looked like, and what they expect of later steps, until those come.

    Args:
        offsets: the steps from a plan to its outcomes.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = tuple(offsets)
        self._due: dict[int, Tensor] = {}
        self._moved: Tensor | None = None

    def planned(
        self, step: int, estimates: Float[Tensor, "K B H A"], expected: Float[Tensor, "B O S"] | None
    ) -> None:
        """Notes a plan.

        Args:
            step: steps of the episode so far.
            estimates: the flow steps' estimates of the chunk.
            expected: the plan's outcome at each offset; None where there is no dynamics.
        """
        self._moved = estimates.diff(dim=0).square().mean(dim=(-2, -1)).sqrt()
        if expected is not None:
            self._due |= {step + offset: expected[:, i] for i, offset in enumerate(self.offsets) if offset}

    def at(self, step: int, observe: Callable[[], Float[Tensor, "B S"]]) -> Diagnostics:
        """The diagnostics of a step, the first of which is planned at.

        Args:
            observe: encodes the observation now as an outcome; called where one was expected.
        """
        assert self._moved is not None
        expected = self._due.pop(step, None)
        error = None if expected is None else (observe() - expected).square().mean(dim=-1).sqrt()
        return Diagnostics(self._moved, error)
