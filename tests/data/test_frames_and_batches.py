"""The frame store and the batches made from it are LeRobot's own, only faster."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.datasets import EpisodeAwareSampler
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.utils.data import default_collate

from lerobot_policy_dap.data import frames as frames_module
from lerobot_policy_dap.data.batches import Batches, BatchOrder, BatchSource
from lerobot_policy_dap.data.frames import FrameStore, numeric_columns
from lerobot_policy_dap.errors import UserError

LENGTHS, FPS, CAMERAS = (7, 5, 9), 10, ("observation.images.left", "observation.images.right")


def make(root, storage):
    """A dataset of noise with two cameras of different sizes."""
    rng = np.random.default_rng(0)
    names = ["height", "width", "channels"]
    features = {
        CAMERAS[0]: {"dtype": storage, "shape": (64, 80, 3), "names": names},
        CAMERAS[1]: {"dtype": storage, "shape": (64, 64, 3), "names": names},
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "observation.force": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.joints": {"dtype": "float64", "shape": (2,), "names": None},
        "observation.count": {"dtype": "int32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (3,), "names": None},
    }
    made = LeRobotDataset.create("local/noise", FPS, features, root=root, use_videos=storage == "video")
    for episode, length in enumerate(LENGTHS):
        for _ in range(length):
            made.add_frame(
                {
                    CAMERAS[0]: rng.integers(0, 256, (64, 80, 3), dtype=np.uint8),
                    CAMERAS[1]: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
                    "observation.state": rng.normal(size=2).astype(np.float32),
                    "observation.force": rng.normal(size=1).astype(np.float32),
                    "observation.joints": rng.normal(size=2),
                    "observation.count": rng.integers(0, 9, 2, dtype=np.int32),
                    "action": rng.normal(size=3).astype(np.float32),
                    "task": f"task {episode % 2}",
                }
            )
        made.save_episode()
    made.finalize()
    return root


@pytest.fixture(scope="module", params=["video", "image"])
def root(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp(request.param) / "noise", request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


def opened(root, **options):
    return LeRobotDataset("local/noise", root=root, return_uint8=True, **options)


def bytes_of(image):
    return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)


def test_a_batch_is_what_lerobots_loader_would_collate(root, folder):
    deltas = {key: [0, 4] for key in (*CAMERAS, "observation.state", "observation.force")} | {
        "action": list(range(4))
    }
    theirs = opened(root, delta_timestamps={key: [d / FPS for d in value] for key, value in deltas.items()})
    dataset = opened(root)
    source = BatchSource(dataset, FrameStore(dataset, CAMERAS, folder), CAMERAS, deltas)
    indices = np.array([0, 6, 7, 11, 12, 20, 3])
    expected = default_collate([theirs[int(i)] for i in indices])
    got = source.batch(indices)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if key == "task":
            assert got[key] == value
        elif key in CAMERAS:
            assert torch.equal(got[key], bytes_of(value)), key
        else:
            assert got[key].dtype == value.dtype, key
            assert torch.equal(got[key], value), key


def test_a_store_is_decoded_once_and_again_when_the_dataset_changes(root, folder, monkeypatch):
    dataset = opened(root)
    FrameStore(dataset, CAMERAS, folder)
    calls = []
    real = frames_module._episode_frames
    monkeypatch.setattr(frames_module, "_episode_frames", lambda *a: calls.append(a) or real(*a))
    FrameStore(dataset, CAMERAS, folder)
    assert not calls
    FrameStore(dataset, CAMERAS[:1], folder)  # another selection is another store
    assert len(calls) == len(LENGTHS)


def test_an_interrupted_decoding_goes_on_and_loses_nothing(root, tmp_path, monkeypatch):
    dataset = opened(root)
    whole = FrameStore(dataset, CAMERAS, tmp_path / "whole")
    real, calls = frames_module._episode_frames, []

    def dying(*arguments):
        if len(calls) == 3:  # in the middle of the second episode: one camera written, the other not
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(frames_module, "_episode_frames", dying)
    with pytest.raises(KeyboardInterrupt):
        FrameStore(dataset, CAMERAS, tmp_path / "cut")
    monkeypatch.setattr(frames_module, "_episode_frames", lambda *a: calls.append(a) or real(*a))
    resumed = FrameStore(dataset, CAMERAS, tmp_path / "cut")
    assert len(calls) == 3 + 4  # the first episode is not decoded again
    everything = np.arange(sum(LENGTHS))
    for camera in CAMERAS:
        np.testing.assert_array_equal(whole.gather(camera, everything), resumed.gather(camera, everything))


def test_the_store_takes_the_frames_bytes_and_little_more(root, tmp_path):
    store = FrameStore(opened(root), CAMERAS, tmp_path)
    raw = sum(LENGTHS) * (64 * 80 + 64 * 64) * 3
    assert sum(p.stat().st_size for p in store.path.iterdir()) < 1.1 * raw


def test_an_episode_decoded_in_parts_is_the_episode(root, tmp_path, monkeypatch):
    dataset, everything = opened(root), np.arange(sum(LENGTHS))
    whole = FrameStore(dataset, CAMERAS, tmp_path / "whole")
    monkeypatch.setattr(frames_module, "_AT_ONCE", 4)
    parts = FrameStore(dataset, CAMERAS[::-1], tmp_path / "parts")
    assert parts.path.name == whole.path.name  # the order in which cameras are named makes no other store
    for camera in CAMERAS:
        np.testing.assert_array_equal(parts.gather(camera, everything), whole.gather(camera, everything))


def test_frames_of_another_size_than_the_dataset_tells_are_refused(root, tmp_path):
    """LeRobot trains on such a dataset: it looks at what it decodes. A store would show bytes of other frames."""
    for told in ((80, 64, 3), (32, 40, 3)):
        dataset = opened(root)
        dataset.meta.info.features[CAMERAS[0]]["shape"] = told
        with pytest.raises(UserError, match=rf"left are 64 x 80 and not {told[0]} x {told[1]} pixels"):
            FrameStore(dataset, CAMERAS[:1], tmp_path / str(told[0]))


def test_words_are_no_numbers(root):
    """LeRobot's language annotations are lists of structures."""
    dataset = opened(root)
    columns = numeric_columns(dataset).keys()
    dataset.meta.info.features["observation.force"] = {"dtype": "language", "shape": (1,), "names": None}
    assert columns - numeric_columns(dataset).keys() == {"observation.force"}


def test_processes_share_the_store_and_copy_nothing(root, folder):
    """The kernel maps the file itself, read-only and shared, into every process that opens the store."""
    dataset = opened(root)
    store = FrameStore(dataset, CAMERAS, folder)
    maps = Path("/proc/self/maps").read_text().splitlines()
    for camera in CAMERAS:
        store.gather(camera, np.array([0, 5]))
        kinds = {line.split()[1] for line in maps if line.endswith(str(store.path / f"{camera}.u8"))}
        assert kinds == {"r--s"}


def test_a_missing_camera_is_named(root, folder):
    with pytest.raises(UserError, match=r"no camera 'top'; it has: observation\.images\.left"):
        FrameStore(opened(root), ["top"], folder)


def test_a_store_on_a_full_disk_says_so(root, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames_module, "_episode_frames", full)
    with pytest.raises(UserError, match="No space left on device"):
        FrameStore(opened(root), CAMERAS, tmp_path)


def sampler(n=23, seed=0):
    return EpisodeAwareSampler([0, 10], [10, n], shuffle=True, seed=seed)


def drawn(order, steps):
    return [order.next().tolist() for _ in range(steps)]


def test_every_frame_comes_once_an_epoch():
    taken = drawn(BatchOrder(sampler(), 5, 1, 0), 10)
    assert [len(b) for b in taken] == [5, 5, 5, 5, 3] * 2
    for epoch in (taken[:5], taken[5:]):
        assert sorted(itertools.chain(*epoch)) == list(range(23))
    assert taken[:5] != taken[5:]


@pytest.mark.parametrize("step", [1, 4, 5, 6, 13])
def test_the_order_goes_on_from_any_step(step):
    through = drawn(BatchOrder(sampler(), 5, 1, 0), 20)
    assert drawn(BatchOrder(sampler(), 5, 1, 0, step), 20 - step) == through[step:]


@pytest.mark.parametrize("processes", [2, 3, 11])  # of the 23 frames, 11 processes have one left for the last step
def test_processes_share_the_batches_of_one_with_the_larger_batch(processes):
    single = drawn(BatchOrder(sampler(), 2 * processes, 1, 0), 12)
    several = [drawn(BatchOrder(sampler(), 2, processes, rank), 12) for rank in range(processes)]
    for step, whole in enumerate(single):
        shared = list(itertools.chain(*(part[step] for part in several)))
        assert set(shared) == set(whole)
        assert all(part[step] for part in several)


@pytest.mark.parametrize(
    "transforms", [None, lambda frames: frames + torch.randint(0, 3, (1,), dtype=torch.uint8)]
)
def test_batches_made_ahead_are_those_made_when_asked_for(root, folder, transforms):
    """And what draws from torch's generator draws at its own step, not a step early."""
    dataset = opened(root)
    source = BatchSource(dataset, FrameStore(dataset, CAMERAS, folder), CAMERAS, {"action": [0, 1]}, transforms)
    order = BatchOrder(EpisodeAwareSampler([0], [21], shuffle=True, seed=3), 4, 1, 0)
    again = BatchOrder(EpisodeAwareSampler([0], [21], shuffle=True, seed=3), 4, 1, 0)
    ahead = Batches(source, order)
    try:
        for step in range(12):
            torch.manual_seed(step)
            one, after = ahead.next(), torch.rand(1)
            torch.manual_seed(step)
            two, same = source.batch(again.next()), torch.rand(1)
            assert all(torch.equal(one[key], two[key]) for key in two if key != "task")
            assert after == same
    finally:
        ahead.close()
