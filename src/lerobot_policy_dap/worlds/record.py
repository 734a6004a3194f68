"""One episode, acted and recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.demonstrations import RecordedEpisode
from .world import MAX_STEPS, World

AFTER_SUCCESS = 16
"""Steps recorded after success, so that the chunks and outcomes before it are real and not padding."""

OBJECT = slice(4, 7)
"""Place of the first object in the full observation, metres; at the origin where a task has none."""
_ARRIVED = 0.02  # metres
_TOWARDS = 10.0  # action units a metre

Act = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""The action `[4]` in [-1, 1] for Meta-World's full observation `[39]`."""


def record(
    world: World,
    act: Act,
    seed: int,
    steps: int = MAX_STEPS,
    *,
    lead_in: int = 0,
    ends_with_success: bool = True,
) -> RecordedEpisode:
    """The episode of `seed` under `act`: frames, states and actions of up to `steps` steps.

    Args:
        lead_in: steps acted before the first that is recorded, unseen. With `steps` at most `MAX_STEPS`.
        ends_with_success: whether to end `AFTER_SUCCESS` steps after the first success.
    """
    world.reset(seed)
    for _ in range(lead_in):
        world.step(act(world.observation39))
    frames: dict[str, list[Any]] = {camera: [] for camera in world.cameras}
    states, actions = [], []
    success_step = None
    for step in range(1, steps + 1):
        for camera, image in world.images().items():
            frames[camera].append(image)
        states.append(world.state)
        action = act(world.observation39)
        actions.append(action)
        if world.step(action).success and success_step is None:
            success_step = step
        if ends_with_success and success_step is not None and step >= success_step + AFTER_SUCCESS:
            break
    return RecordedEpisode(
        seed,
        {camera: np.stack(images) for camera, images in frames.items()},
        np.stack(states),
        np.stack(actions),
        success_step,
    )


def noisy(act: Act, deviation: float, rng: np.random.Generator) -> Act:
    """`act` with Gaussian noise of a standard deviation in action units, clipped to [-1, 1]."""

    def disturbed(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        action = act(observation)
        noisy_action = action + deviation * rng.standard_normal(len(action))
        return np.clip(noisy_action, -1, 1).astype(np.float32)

    return disturbed


def by_way_of(act: Act, aside: float) -> Act:
    """`act`, by a point half way from the hand to the object and so many metres to the arm's right.

    The hand goes there at the height where it begins; what `act` does with its gripper is done from the start.
    """
    point: NDArray[np.float64] | None = None
    there = False

    def detoured(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        nonlocal point, there
        hand = observation[:3]
        if point is None:
            point = (hand + observation[OBJECT]) / 2
            point[0] += aside
            point[2] = hand[2]
        there = there or float(np.linalg.norm(point - hand)) < _ARRIVED
        action = act(observation)
        if not there:
            action = np.append(np.clip(_TOWARDS * (point - hand), -1, 1), action[3]).astype(np.float32)
        return action

    return detoured
