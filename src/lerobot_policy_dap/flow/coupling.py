"""The arms: how the policy's flow and the dynamics' flow see each other."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class Seen(Enum):
    """Which account of the action chunk the dynamics is given while a chunk is generated."""

    NOTHING = auto()
    """The null token."""
    DRAFT = auto()
    """The policy's first estimate, made from noise and observation alone; it does not change afterwards."""
    ESTIMATE = auto()
    """The policy's present estimate â."""


class Coupling(StrEnum):
    """Which model sees which, while an action chunk is generated.

    Every arm has the same networks, so the same number of parameters, and evaluates the policy once a flow step;
    arms with feedback evaluate the dynamics once a step too. An arm that gives no feedback lets the policy see its
    learned null token instead.
    """

    NONE = "none"
    """Plain flow matching: no dynamics, no feedback."""
    AUXILIARY = "auxiliary"
    """The dynamics loss in training, no feedback: is representation learning the whole effect?"""
    AGNOSTIC = "agnostic"
    """Feedback from a dynamics that never sees actions: the video-prediction policy."""
    ONE_WAY = "one_way"
    """Feedback from a dynamics that sees a draft of the chunk, and never what becomes of it."""
    TWO_WAY = "two_way"
    """DAP: the dynamics sees the policy's estimate â, the policy sees the dynamics' estimate ŝ."""
    SHUFFLED = "shuffled"
    """DAP, but each row of a batch sees another row's ŝ: does the content of the feedback matter?"""

    @property
    def learns_dynamics(self) -> bool:
        """Whether training fits the dynamics model, and so needs the observation after the chunk."""
        return self is not Coupling.NONE

    @property
    def feeds_policy(self) -> bool:
        """Whether the policy sees the predicted outcome ŝ of the step before."""
        return self not in (Coupling.NONE, Coupling.AUXILIARY)

    @property
    def dynamics_sees(self) -> Seen:
        """What the dynamics is told of the chunk."""
        return {Coupling.AGNOSTIC: Seen.NOTHING, Coupling.ONE_WAY: Seen.DRAFT}.get(self, Seen.ESTIMATE)
