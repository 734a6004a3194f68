"""The arms: how the policy's flow and the dynamics' flow see each other."""

from __future__ import annotations

from enum import StrEnum


class Coupling(StrEnum):
    """Which model sees which, while an action chunk is generated.

    Every arm has the same networks, so the same number of parameters: an arm that gives no feedback lets the
    policy see its learned null token instead. A further arm is a further member and its two answers below.
    """

    NONE = "none"
    """Plain flow matching: no dynamics, no feedback."""
    TWO_WAY = "two_way"
    """DAP: the dynamics sees the policy's estimate â, the policy sees the dynamics' estimate ŝ."""

    @property
    def learns_dynamics(self) -> bool:
        """Whether training fits the dynamics model, and so needs the observation after the chunk."""
        return self is not Coupling.NONE

    @property
    def feeds_policy(self) -> bool:
        """Whether the policy sees the predicted outcome ŝ of the step before."""
        return self is Coupling.TWO_WAY
