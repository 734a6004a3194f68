"""Episodes of a linear world, in which everything a score says can be worked out."""

import numpy as np

from lerobot_policy_dap.monitor.scores import Plan
from lerobot_policy_dap.monitor.signals import Signals

OFFSETS, EVERY, S = (8, 16), 8, 3


def episode(rng, steps=80, wrong=None, far=0.0, noise=0.1):
    """What is seen moves by one in every dimension a step, and so it is expected; `noise` is how well.

    Args:
        wrong: the step from which on the world stands still, against expectation.
        far: how far the encodings lie from everybody else's.
    """
    plans = []
    for step in range(0, steps, EVERY):
        now = min(step, steps if wrong is None else wrong) * np.ones(S)
        seen = (now + noise * rng.normal(size=S)).astype(np.float32)
        expected = np.stack([now + offset for offset in OFFSETS]).astype(np.float32)
        context = (rng.normal(size=S) + far).astype(np.float32)
        plans.append(Plan(step, Signals(context, seen, expected, np.float32(rng.uniform()))))
    return plans


def batch(rows):
    """Signals of several episodes' plans at one moment, as a policy gives them."""
    return Signals(*(np.stack([getattr(plan.signals, name) for plan in rows]) for name in Signals._fields))
