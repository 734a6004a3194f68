"""What a plan looked like from inside: how far it moved while it was made, and whether what it expected came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Diagnostics:
    """Of the latest plan, a number a row of the batch."""

    chunk_moved: Float[Tensor, "steps B"]
    """Root mean square change of the estimated chunk from each flow step to the next, in normalised actions; K - 1
    rows. Small from the start: the policy had made up its mind before the dynamics said anything."""
    outcome_error: Float[Tensor, "B"] | None
    """Root mean square distance between the observation now and what an earlier plan expected of now, in standardised
    dimensions (about 1.4 for two unrelated ones). None where no plan expected anything of this step."""


class Expectations:
    """What plans expect of later steps, until those come."""

    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = tuple(offsets)
        self._due: dict[int, Tensor] = {}

    def diagnose(
        self,
        step: int,
        estimates: Float[Tensor, "K B H A"],
        expected: Float[Tensor, "B O S"] | None,
        observe: Callable[[], Float[Tensor, "B S"]],
    ) -> Diagnostics:
        """The diagnostics of a plan.

        Args:
            step: steps of the episode so far.
            estimates: the flow steps' estimates of the chunk.
            expected: the plan's outcome at each offset; None where there is no dynamics.
            observe: encodes the observation now as an outcome; called where one was expected.
        """
        error = None
        if step in self._due:
            error = (observe() - self._due[step]).square().mean(dim=-1).sqrt()
        self._due = {due: outcome for due, outcome in self._due.items() if due > step}
        if expected is not None:
            self._due |= {step + offset: expected[:, i] for i, offset in enumerate(self.offsets) if offset}
        moved = estimates.diff(dim=0).square().mean(dim=(-2, -1)).sqrt()
        return Diagnostics(moved, error)
