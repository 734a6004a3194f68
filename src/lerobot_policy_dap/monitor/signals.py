"""What a monitor looks at: the policy's own account of what it sees, plans and expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..flow import sample
from ..observing import observation_queues

Array = NDArray[np.float32]

SAMPLES = 8
"""Chunks drawn for one observation, among which the spread is taken."""


class Signal(StrEnum):
    """The kinds of `Signals`; a score names those that it needs, and others are not computed."""

    CONTEXT = "context"
    OUTCOME = "outcome"
    SPREAD = "spread"


class Signals(NamedTuple):
    """Of B observations at which a chunk was planned; None where nobody needs it."""

    context: Array | None = None
    """`[B, D]`: the encoding of the observation."""
    observed: Array | None = None
    """`[B, S]`: the observation as an outcome of earlier chunks."""
    expected: Array | None = None
    """`[B, O, S]`: the outcomes that the dynamics expects of the chunk planned now, at the policy's offsets."""
    spread: Array | None = None
    """`[B]`: standard deviation among chunks for the same observation, mean over steps and dimensions."""

    def take(self, places: Sequence[int]) -> Signals:
        """Those of some of the observations."""
        return Signals(*(None if value is None else value[list(places)] for value in self))

    def rows(self) -> Iterator[Signals]:
        """The signals of each observation, without the first axis."""
        rows = next(len(value) for value in self if value is not None)
        for i in range(rows):
            yield Signals(*(None if value is None else value[i] for value in self))


def has_dynamics(policy: Any) -> bool:
    """Whether the policy is a DAP policy that learned dynamics."""
    arm = getattr(policy.config, "arm", None)
    return bool(getattr(arm, "learns_dynamics", False)) and hasattr(policy, "expected_outcome")


def has_context(policy: Any) -> bool:
    """Whether the policy tells its encoding of an observation, as every DAP policy does."""
    return hasattr(policy, "observed_outcome") and hasattr(policy, "context_now")


@torch.no_grad()
def read_signals(policy: Any, batch: dict[str, Any], chunk: Tensor | None, needs: frozenset[Signal]) -> Signals:
    """What the policy makes of a batch for which it has planned `chunk`.

    Nothing that decides later actions is touched: neither the policy's noise nor torch's.

    Args:
        policy: in evaluation mode; a DAP policy, or any other of LeRobot for the spread alone.
        batch: normalised, of B observations; a policy with a history has it in its queues already.
        chunk: `[B, H, A]`, normalised; only the outcome needs it.
    """
    observed = expected = spread = None
    z = policy.context_now(batch) if needs and has_context(policy) else None  # the images are encoded once
    if Signal.OUTCOME in needs and chunk is not None:
        observed = _numpy(policy.observed_outcome(batch))
        expected = _numpy(policy.expected_outcome(batch, chunk, context=z))
    if Signal.SPREAD in needs:
        spread = _numpy(_chunks(policy, batch, z).std(dim=0).flatten(1).mean(dim=1))
    return Signals(_numpy(z) if z is not None and Signal.CONTEXT in needs else None, observed, expected, spread)


def _chunks(policy: Any, batch: dict[str, Any], z: Tensor | None) -> Tensor:
    """`[SAMPLES, B, H, A]` for the same observations."""
    devices = [torch.device(str(policy.config.device))] if str(policy.config.device).startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        if z is None:
            return torch.stack([policy.predict_action_chunk(_history(policy, batch)) for _ in range(SAMPLES)])
        context = z.repeat(SAMPLES, 1)
        actions = torch.randn(len(context), *policy.chunk_shape, device=context.device)
        outcomes = torch.randn(len(context), *policy.outcome_shape, device=context.device)
        arm, how = policy.config.arm, policy.config.generation
        drawn: Tensor = sample(policy.policy, policy.dynamics, arm, context, actions, outcomes, **how).action
    return drawn.reshape(SAMPLES, -1, *drawn.shape[1:])


def _history(policy: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with the names under which a policy with a memory looks its observations up in it."""
    return {**dict.fromkeys(observation_queues(policy)), **batch}


def _numpy(x: Tensor) -> Array:
    values: Array = x.float().cpu().numpy()
    return values
