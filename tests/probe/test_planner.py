"""Recorded observations reach a policy exactly as the robot's would."""

import numpy as np
import pytest
import torch
from probe_support import ACTIONS, SIZES, STATE, TOP, WRIST, make_dataset, picture

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.probe.dataset import (
    load_samples,
    open_metadata,
    parse_episodes,
    read_samples,
    save_samples,
    spread_frames,
)
from lerobot_policy_dap.probe.planner import Checkpoint, ChunkPlanner

HISTORY = 3


@pytest.fixture(scope="module", params=["in_images", "in_video"])
def dataset(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def samples(dataset):
    """Every frame of two episodes."""
    meta = open_metadata(dataset, "local/robot")
    return read_samples(meta, (1, 3), 24, [TOP, WRIST, "observation.state"], HISTORY, horizon=4)


def test_what_is_read_is_what_was_recorded(dataset, samples):
    assert (samples.episode == np.repeat([1, 3], 12)).all()
    assert (samples.frame == np.tile(np.arange(12), 2)).all()
    tolerance = 0 if dataset.name == "in_images" else 12  # the video codec's
    rng = np.random.default_rng(0)
    angles = [(rng.uniform(0, 6), rng.uniform(0.1, 0.4)) for _ in range(4)]
    for row in (0, 5, 17):
        episode, frame = samples.episode[row], samples.frame[row]
        phase, speed = angles[episode]
        for back in range(HISTORY):
            seen = max(frame - back, 0)  # before the first frame, the first
            for camera, size in SIZES.items():
                drawn = picture(size, phase + speed * seen, episode).astype(int)
                assert np.abs(samples.images[camera][row, -1 - back] - drawn).mean() <= tolerance
            state = np.cos(phase + speed * seen + np.arange(STATE))
            assert samples.others["observation.state"][row, -1 - back] == pytest.approx(state, abs=1e-5)
        action = np.sin(phase + speed * frame + np.arange(ACTIONS)) * (1 + np.arange(ACTIONS))
        assert samples.action[row, 0] == pytest.approx(action, abs=1e-4)
    assert samples.valid[:9].all()
    assert (samples.valid[9:12].sum(axis=1) == [3, 2, 1]).all()
    assert set(samples.task) == {"touch the disc"}


def test_samples_are_kept(samples, tmp_path):
    save_samples(tmp_path / "samples", samples)
    found = load_samples(tmp_path / "samples")
    assert (found.action == samples.action).all()
    assert all((found.images[camera] == samples.images[camera]).all() for camera in SIZES)
    (tmp_path / "samples" / "action.npy").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"action\.npy is not readable"):
        load_samples(tmp_path / "samples")


@pytest.mark.parametrize(
    ("kind", "options"), [("act", {}), ("diffusion", {}), ("vqbet", {}), ("dap", {}), ("dap", {"n_obs_steps": 2})]
)
def test_a_chunk_is_what_the_policy_would_execute(kind, options, checkpoint, in_images):
    """`select_action` along the episode, as on the robot, plans anew every four steps from its own history."""
    meta = open_metadata(in_images, "local/robot")
    planner = ChunkPlanner(Checkpoint(checkpoint(kind, **options), meta), "cpu")
    inputs = planner.checkpoint.inputs
    samples = read_samples(meta, (1, 3), 24, inputs, planner.checkpoint.history, planner.checkpoint.steps)
    rows = slice(0, 24, 12)  # both episodes, side by side
    planner.policy.reset()
    executed = []
    for step in range(8):
        if step % 4 == 0:
            torch.manual_seed(17)
        observation = {
            key: torch.from_numpy(images[rows][:, -1]).movedim(-1, 1).float() / 255
            for key, images in samples.images.items()
        }
        observation |= {key: torch.from_numpy(value[rows][:, -1]) for key, value in samples.others.items()}
        batch = planner.preprocess({**observation, "task": ["touch the disc"] * 2})
        with torch.inference_mode():
            executed.append(planner.postprocess(planner.policy.select_action(batch)).numpy())
        rows = slice(rows.start + 1, 24, 12)
    for start in (0, 4):
        rows = slice(start, 24, 12)
        images = {key: value[rows] for key, value in samples.images.items()}
        others = {key: value[rows] for key, value in samples.others.items()}
        chunk = planner.plan(images, others, samples.task[rows], seed=17)
        assert chunk.shape == (2, 4, ACTIONS)
        np.testing.assert_array_equal(chunk, np.stack(executed[start : start + 4], axis=1))
        other = planner.plan(images, others, samples.task[rows], seed=18)
        assert (other == chunk).all() == (kind == "act")  # the only one without noise


def test_a_policy_without_state(checkpoint, tmp_path):
    root = make_dataset(tmp_path / "no_state", video=False, state=False)
    folder = checkpoint("dap", state=False, root=root)
    meta = open_metadata(root, "local/no_state")
    planner = ChunkPlanner(Checkpoint(folder, meta), "cpu")
    samples = read_samples(meta, (0, 1), 4, planner.checkpoint.inputs, 1, 4)
    assert samples.others == {}
    assert planner.plan(samples.images, samples.others, samples.task, seed=0).shape == (4, 4, ACTIONS)


def test_frames_are_spread_evenly():
    assert [chosen.tolist() for chosen in spread_frames([10, 3, 100], 9)] == [[1, 5, 8], [0, 1, 2], [16, 50, 83]]
    assert [len(chosen) for chosen in spread_frames([10, 10, 10], 2)] == [1, 1, 1]
    assert [chosen.tolist() for chosen in spread_frames([2, 2], 100)] == [[0, 1], [0, 1]]


def test_episodes():
    assert parse_episodes("40-42, 3", 50) == (3, 40, 41, 42)
    assert parse_episodes("0.1", 50) == (45, 46, 47, 48, 49)
    assert parse_episodes("0.1", 5) == (3, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4-7", "no episode 5; the dataset has 5, 0 to 4"),
        ("all", "give numbers and ranges"),
        ("1.5", "give numbers and ranges"),
        ("3", "name at least two"),
    ],
)
def test_no_such_episodes(text, said):
    with pytest.raises(UserError, match=said):
        parse_episodes(text, 5)


def test_features_that_do_not_match(checkpoint, in_images, tmp_path):
    small = make_dataset(tmp_path / "small", video=False, sizes={TOP: (32, 32)})
    meta = open_metadata(small, "local/small")
    with pytest.raises(UserError, match=rf"needs {WRIST}; the dataset has: .*{TOP}"):
        Checkpoint(checkpoint("act"), meta)
    with pytest.raises(
        UserError, match=rf"trained with {TOP} of shape \(3, 48, 64\); the dataset's is \(3, 32, 32\)"
    ):
        Checkpoint(checkpoint("act", cameras=(TOP,)), meta)
    meta = open_metadata(in_images, "local/robot")
    meta.features["action"]["shape"] = (ACTIONS + 1,)
    with pytest.raises(UserError, match=r"trained with action of shape \(6,\); the dataset's is \(7,\)"):
        Checkpoint(checkpoint("act"), meta)


def test_a_camera_that_nobody_has_is_not_looked_for(checkpoint, in_images):
    folder = checkpoint("dap", cameras=(TOP, "observation.images.empty_camera_0"))
    assert Checkpoint(folder, open_metadata(in_images, "local/robot")).cameras == [TOP]


def test_a_policy_that_sees_nothing(checkpoint, in_images):
    folder = checkpoint("dap", cameras=("none",))
    with pytest.raises(UserError, match="sees no camera"):
        Checkpoint(folder, open_metadata(in_images, "local/robot"))


def test_no_dataset(tmp_path):
    with pytest.raises(UserError, match="is no LeRobotDataset"):
        open_metadata(tmp_path, "local/none")
    blind = make_dataset(tmp_path / "blind", video=False, sizes={})
    with pytest.raises(UserError, match="has no images"):
        open_metadata(blind, "local/blind")
