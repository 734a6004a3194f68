"""What `DAPPolicy` logs while it is trained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch import Tensor

from .flow import FlowLosses, Seen
from .nets.figures import dynamics_figures, image_figures, outcome_figures

if TYPE_CHECKING:
    from .modeling_dap import DAPPolicy

log = logging.getLogger(__name__)

COLLAPSED_RANK = 1.5
"""Outcomes of a lower effective rank hold next to nothing (a batch of distinct frames has 5 to 20)."""
LEAST_ROWS = 8
"""Rows of which a rank is judged: of two rows, or of one number, none is above 1, whatever they hold."""
MEASURED_EVERY = 50
"""Training steps between two measurements of the figures that cost an extra evaluation, or a wait for a GPU."""


class TrainingFigures:
    """The losses of each step, and every now and then what a normal loss hides (`nets.figures`).

    Args:
        policy: whose they are.
    """

    def __init__(self, policy: DAPPolicy) -> None:
        # Its modules are not kept: a policy that holds something that holds it cannot be copied or freed.
        self.arm = policy.config.arm
        self.image_dim = policy.encoder.dim * policy.config.n_obs_steps
        self.image_width = policy.encoder.outcome_shape(policy.config.outcome_grid)[1]
        self._steps = 0
        self._latest: dict[str, float] = {}  # LeRobot's log shows 0 for a figure that none of its steps had
        self._warned = False

    def __call__(
        self, policy: DAPPolicy, losses: FlowLosses, context: Tensor, action: Tensor, outcome: Tensor
    ) -> dict[str, float]:
        """The figures of one step, by name; those that are not measured at every step, as they were last.

        Held-out batches have none: they would stand in the log as training's, until these are measured again.
        """
        if not policy.training:
            return {}
        measure = self._steps % MEASURED_EVERY == 0
        self._steps += 1
        if losses.policy.is_cuda and not measure:
            return dict(self._latest)  # reading a number waits for the GPU
        figures = {"policy_loss": losses.policy.item()}
        if self.arm.learns_dynamics:
            figures["dynamics_loss"] = losses.dynamics.item()
            figures["dynamics_true_loss"] = losses.dynamics_true.item()
            figures["feedback_effect"] = losses.feedback_effect.item()
        if measure and len(context) > 1:
            if self.image_dim:
                figures |= image_figures(policy.policy, self.image_dim, context, action)
            if self.arm.learns_dynamics:
                told = self.arm.dynamics_sees is not Seen.NOTHING
                figures |= dynamics_figures(policy.dynamics, told, context, action, outcome)
                variance = policy.standardize.running_var
                assert variance is not None
                variance = variance.reshape(-1, outcome.shape[-1])
                figures |= outcome_figures(outcome, variance, self.image_width)
                numbers = self.image_width or outcome[0].numel()
                self._warn_of_collapse(figures, ranked=len(context) >= LEAST_ROWS and numbers > 1)
        self._latest |= figures
        return dict(self._latest)

    def _warn_of_collapse(self, figures: dict[str, float], ranked: bool) -> None:
        """Says so, once, when the outcomes have become constant: the dynamics' loss looks normal then."""
        collapsed = ranked and figures["outcome_rank"] < COLLAPSED_RANK
        if self._warned or not (collapsed or figures["outcome_spread"] <= 1e-4):
            return
        self._warned = True
        log.warning(
            "the outcomes have collapsed (effective rank %.1f, spread %.2g): the dynamics learns nothing from them; "
            "look at image_use and image_spread in the log, and lower --policy.optimizer_lr",
            figures["outcome_rank"],
            figures["outcome_spread"],
        )
