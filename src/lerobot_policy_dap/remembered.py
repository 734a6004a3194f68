"""What a policy makes of the outcomes that were demonstrated to it, and that it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import UserError
from .flow import Guide, Steering, outcome_of

if TYPE_CHECKING:
    from .modeling_dap import DAPPolicy


class Remembered:
    """The demonstrated outcomes of a policy that acts, from one `reset()` to the next."""

    def __init__(self, policy: DAPPolicy) -> None:
        self._policy = policy
        self._steering: Steering | None = None

    def outcomes(self) -> Float[Tensor, "M S"]:
        """All of them, standardised.

        Raises:
            UserError: there is none.
        """
        policy = self._policy
        assert policy.memory is not None  # the configuration asks for it
        kept = policy.memory.kept
        if not len(kept):
            raise UserError("this checkpoint remembers no outcome: train with policy.outcome_memory above 0")
        known: Tensor = policy.standardize(kept.reshape(-1, policy.outcome_dim))
        return known.reshape(len(kept), -1)

    def guide(self, context: Float[Tensor, "B D"]) -> Guide:
        """Draws estimates back whose outcome, seen in one step from the middle of the noise, has left them."""
        policy, config = self._policy, self._policy.config
        if self._steering is None:
            self._steering = Steering(self.outcomes(), config.steer_beyond, config.steer)
        with torch.inference_mode(False):  # gradients pass by it
            context = context.clone()

        def expected(chunk: Tensor) -> Tensor:
            start = chunk.new_zeros(len(chunk), *policy.outcome_shape)
            return outcome_of(policy.dynamics, config.arm, context, chunk, start, steps=1)

        return self._steering.guide(expected)
