"""The last look at a chunk before it leaves: finite, within the demonstrated range, without jumps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .refusals import Reason, Refused


class OnUnsafe(StrEnum):
    """What to do with a chunk that breaks a limit."""

    CLAMP = "clamp"
    """Move each number to its limit."""
    HOLD = "hold"
    """End the chunk before the first action that breaks one: the robot then holds by its own rule."""
    REFUSE = "refuse"
    """Answer with an error."""


class Checked(NamedTuple):
    """A chunk that may leave."""

    actions: NDArray[np.float32]
    """`[n, A]`; fewer rows than before under `hold`."""
    out_of_range: int
    """Numbers outside the range."""
    too_fast: int
    """Numbers that changed by too much in one step."""


@dataclass(frozen=True)
class ActionLimits:
    """Bounds on actions in robot units.

    Args:
        low, high: `[A]`, the demonstrated range with its margin.
        step: `[A]`, the greatest change from one action to the next.
        on_unsafe: what happens beyond them.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    step: NDArray[np.float32]
    on_unsafe: OnUnsafe = OnUnsafe.CLAMP

    @classmethod
    def around(
        cls,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        margin: float,
        max_change: float,
        on_unsafe: OnUnsafe,
    ) -> ActionLimits:
        """Limits around the range of the demonstrations.

        Args:
            margin: part of each dimension's range that is allowed beyond either end.
            max_change: part of each dimension's range that is allowed in one step.
        """
        span = high - low
        # A dimension that never moved still has a rounding error.
        slack = np.maximum(margin * span, 1e-4 * np.maximum(1, np.abs(high))).astype(np.float32)
        return cls(low - slack, high + slack, np.maximum(max_change * span, slack).astype(np.float32), on_unsafe)

    def check(self, actions: NDArray[np.float32], before: NDArray[np.float32] | None) -> Checked:
        """The chunk `[n, A]` as it may leave.

        Args:
            before: `[A]`, the command executed before the chunk's first, where it is known. From one that is
                outside the range, the chunk comes back by `step` at a time.

        Raises:
            Refused: it is not finite, or breaks a limit and `on_unsafe` leaves nothing to send.
        """
        if not np.isfinite(actions).all():
            raise Refused(Reason.NOT_FINITE, "the policy gave actions that are not finite; nothing is sent")
        clamped = np.clip(actions, self.low, self.high)
        outside = clamped != actions
        fast = np.zeros_like(outside)
        last = before
        for i, action in enumerate(clamped):
            if last is not None:
                limited = np.clip(action, last - self.step, last + self.step)
                # Bounds in single precision may miss a change of exactly `step` by the last bit.
                fast[i] = np.abs(limited - action) > 1e-6 * np.maximum(1, np.abs(action))
                clamped[i] = limited  # from outside the range the way back takes as many steps as it needs
            last = clamped[i]
        unsafe = (outside | fast).any(axis=1)
        counts = int(outside.sum()), int(fast.sum())
        if not unsafe.any() or self.on_unsafe is OnUnsafe.CLAMP:
            return Checked(clamped, *counts)
        first = int(np.argmax(unsafe))
        if self.on_unsafe is OnUnsafe.HOLD and first > 0:
            return Checked(clamped[:first], *counts)
        what = (
            "out of the demonstrated range"
            if outside[first].any()
            else "further from the last than one step may go"
        )
        dimension = int(np.argmax(outside[first] | fast[first]))
        raise Refused(
            Reason.UNSAFE_ACTION,
            f"action {first} of the chunk is {what} (dimension {dimension}: {actions[first, dimension]:.4g}, allowed "
            f"{self.low[dimension]:.4g} to {self.high[dimension]:.4g}, {self.step[dimension]:.4g} a step)",
        )
