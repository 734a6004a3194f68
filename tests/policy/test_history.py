"""Several observations at once, and observations of other kinds: sizes, shapes, what is missing, the task's words."""

import logging

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from test_policy import BASE, CAMERA, batch, config, now, policy

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.flow import Coupling
from lerobot_policy_dap.modeling_dap import DAPPolicy
from lerobot_policy_dap.monitor.signals import Signal, read_signals
from lerobot_policy_dap.nets.augment import random_shift


def episode(made, length, seed=3):
    g = torch.Generator().manual_seed(seed)
    return [
        {CAMERA: torch.rand(2, 3, 40, 48, generator=g), "observation.state": torch.randn(2, 3, generator=g)}
        for _ in range(length)
    ]


def stacked(frames):
    return {key: torch.stack([frame[key] for frame in frames], dim=1) for key in frames[0]}


@pytest.mark.parametrize("coupling", list(Coupling))
@pytest.mark.parametrize("velocity", ["mlp", "transformer"])
def test_trains_and_acts_on_a_history(coupling, velocity):
    made = policy(
        coupling=coupling, n_obs_steps=3, velocity=velocity, hidden_dim=64, dynamics_hidden_dim=64,
        cameras=(CAMERA, "observation.images.wrist"),
    ).train()  # fmt: skip
    assert made.config.observation_delta_indices[:3] == [-2, -1, 0]
    loss, figures = made(batch(made))
    loss.backward()
    assert loss.isfinite()
    assert figures["image_use"] > 0
    assert made.predict_action_chunk({k: v[:, :3] for k, v in batch(made).items()}).shape == (5, 6, 2)


def test_every_observation_of_the_history_counts_and_none_of_the_future():
    made = policy(n_obs_steps=3).eval()
    given = batch(made)
    z = made.context(given)
    for step in range(4):
        other = {key: value.clone() for key, value in given.items()}
        for key in (CAMERA, "observation.state"):
            other[key][:, step] += 0.3
        assert torch.equal(made.context(other), z) == (step == 3)


def test_select_action_keeps_the_history_as_lerobots_diffusion_does():
    made = policy(n_obs_steps=3, n_action_steps=2, inference_seed=0).eval()
    frames = episode(made, 5)
    made.reset()
    actions = [made.select_action(frame) for frame in frames]
    # Plans at steps 0, 2 and 4; the first observation fills the history.
    made.reset()
    for step, history in ((0, [0, 0, 0]), (2, [0, 1, 2]), (4, [2, 3, 4])):
        chunk = made.predict_action_chunk(stacked([frames[i] for i in history]))
        assert torch.equal(chunk[:, 0], actions[step])


def test_reset_forgets_the_history():
    made = policy(n_obs_steps=2).eval()
    one, two = episode(made, 2)
    made.reset()
    first = made.select_action(two)
    made.reset()
    made.select_action(one)
    made.reset()
    assert torch.equal(made.select_action(two), first)


def test_a_history_that_is_too_short_is_named():
    made = policy(n_obs_steps=3).eval()
    with pytest.raises(UserError, match="2 observations; the policy looks at 3"):
        made.predict_action_chunk(stacked(episode(made, 2)))


def test_outcomes_are_later_than_the_history():
    made = policy(n_obs_steps=2, outcome_offsets=(0, 4)).eval()
    assert made.config.observation_delta_indices == [-1, 0, 4]
    given = batch(made)
    asked = made._by_offset(made._outcome(given, torch.zeros(5, 1))[0])
    for i, index in enumerate((1, 2)):
        later = {key: given[key][:, index] for key in (CAMERA, "observation.state")}
        torch.testing.assert_close(made.observed_outcome(later), asked[:, i])
    # Of a history, what is observed is its last.
    torch.testing.assert_close(made.observed_outcome({k: v[:, :2] for k, v in given.items()}), asked[:, 0])


def test_the_frames_of_a_history_are_shifted_together():
    image = torch.rand(6, 1, 3, 12, 12)
    torch.manual_seed(0)
    moved = random_shift(image.expand(-1, 4, -1, -1, -1), size=12, reach=3)
    assert all(torch.equal(moved[:, 0], moved[:, t]) for t in range(4))
    assert not torch.equal(moved[:, 0], image[:, 0])


@pytest.mark.parametrize("sizes", [{}, BASE], ids=["small", "base"])
@pytest.mark.parametrize("grid", [0, 2])
@pytest.mark.parametrize("actions", [1, 17])
def test_cameras_of_several_sizes_and_any_number_of_actions(grid, actions, sizes):
    shapes = {"observation.images.a": (3, 40, 90), "observation.images.b": (3, 120, 36)}
    made = DAPPolicy(config_of(shapes, actions, grid, **sizes))
    times = len(made.config.observation_delta_indices)
    given = {key: torch.rand(4, times, *shape) for key, shape in shapes.items()}
    given["action"] = torch.randn(4, 6, actions)
    loss, _ = made.train()(given)
    loss.backward()
    assert made.predict_action_chunk(now(given)).shape == (4, 6, actions)


@pytest.mark.parametrize("coupling", ["none", "two_way"])
@pytest.mark.parametrize("cameras", [(CAMERA,), ()], ids=["camera", "state"])
def test_one_number_is_learned_as_lerobot_collates_it(coupling, cameras):
    """It stores a feature of the shape (1,) without its axis: `[B, T]` and not `[B, T, 1]`."""
    made = policy(cameras=cameras, state=1, actions=1, coupling=coupling).train()
    given = batch(made)
    given["action"] = given["action"][..., :1]
    torch.manual_seed(1)
    whole, _ = made(given)
    torch.manual_seed(1)
    collated, _ = made(
        {key: x.squeeze(-1) if key in ("action", "observation.state") else x for key, x in given.items()}
    )
    assert torch.equal(whole, collated)


def config_of(shapes, actions, grid, **sizes):
    made = config(cameras=(), state=0, outcome_grid=grid, **sizes)
    made.input_features = {key: PolicyFeature(FeatureType.VISUAL, shape) for key, shape in shapes.items()}
    made.output_features = {"action": PolicyFeature(FeatureType.ACTION, (actions,))}
    return made


def test_the_task_is_overlooked_and_said_once(caplog):
    made = policy()
    given = {**batch(made), "task": ["open the drawer"] * 5}
    without = {key: value for key, value in given.items() if key != "task"}
    with caplog.at_level(logging.INFO, "lerobot_policy_dap"):
        other = policy()
        torch.manual_seed(1)
        plain, _ = other.train()(without)
        assert not caplog.records
        torch.manual_seed(1)
        told, _ = made.train()(given)
        made.eval().select_action({**now(given), "task": "open the drawer"})
    assert torch.equal(plain, told)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "task text is ignored" in caplog.text


@pytest.mark.parametrize("ask", ["select_action", "predict_action_chunk"])
def test_whoever_asks_for_actions_is_told_that_the_task_is_overlooked(ask, caplog):
    made = policy().eval()
    with caplog.at_level(logging.INFO, "lerobot_policy_dap"):
        for _ in range(2):
            getattr(made, ask)({**now(batch(made)), "task": ["open the drawer"] * 5})
    assert ["task text is ignored" in record.message for record in caplog.records] == [True]


def test_what_a_monitor_reads_is_of_the_whole_history():
    made = policy(n_obs_steps=3, n_action_steps=2).eval()
    frames = episode(made, 3)
    for frame in frames:
        made.select_action(frame)
    history = made.context(stacked(frames))
    assert torch.equal(made.context_now(frames[-1]), history)
    read = read_signals(made, frames[-1], None, frozenset({Signal.CONTEXT}))
    assert torch.equal(torch.from_numpy(read.context), history)
