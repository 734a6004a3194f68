"""Recorded episodes on their way into a LeRobotDataset.

LeRobot's writer keeps its Parquet files open until the end, so a killed recording would lose everything. An
episode is therefore staged as one file of its own, whole or not at all, and the dataset is assembled from the
staged files at the end, beside its final place, and renamed into it.

    <out>.partial/request.json          what was asked; another request does not go on with it
    <out>.partial/00000012.safetensors  one episode that is kept, by seed
    <out>.partial/00000013.json         one that is not: its length alone
    <out>/meta/recording.json           how, from which seeds, and what failed
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ..errors import UserError
from ..files import RECORDING_FILE, read_json, replacing_file, replacing_folder, write_json

FORMAT = 1

# Full chroma and little loss. LeRobot's default (4:2:0) blurs the colours of small frames to 30 dB, and a policy
# that trains on those meets unblurred ones when it acts; this keeps 44 dB.
ENCODER = {"vcodec": "h264", "pix_fmt": "yuv444p", "crf": 4, "g": 2, "preset": "fast"}


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T steps."""

    seed: int
    frames: dict[str, NDArray[np.uint8]]
    """By camera, `[T, H, W, 3]`: what the robot saw before each action."""
    state: NDArray[np.float32]
    """`[T, D]`"""
    action: NDArray[np.float32]
    """`[T, A]`"""
    success_step: int | None
    """Steps until success, and the rest of the episode was recorded after it; None where none came."""


class Listed(NamedTuple):
    """An episode's place in a dataset."""

    seed: int
    task: str
    """What the robot was to do, in words: LeRobot's label of the episode."""
    notes: dict[str, Any]
    """Plain JSON, kept with the episode's seed and length in the recording."""


class Staging:
    """The folder beside `out` in which episodes wait.

    Raises:
        UserError: it holds the unfinished recording of another request.
    """

    def __init__(self, out: Path, request: dict[str, Any]) -> None:
        self.path = out.with_name(out.name + ".partial")
        asked = self.path / "request.json"
        if asked.exists():
            if read_json(asked) != request:
                raise UserError(
                    f"{self.path} holds an unfinished collection with other options; "
                    "repeat those options to finish it, or delete the folder"
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise UserError(f"{self.path} exists and is no unfinished collection; choose another --out")
        else:
            write_json(asked, request)

    def outcomes(self) -> dict[int, bool]:
        """Seeds tried so far, and whether the episode of each is kept."""
        tried = {int(p.stem): p.suffix == ".safetensors" for p in self.path.glob("[0-9]*.*")}
        return dict(sorted(tried.items()))

    def keep(self, episode: RecordedEpisode) -> None:
        """Stages an episode, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {"state": episode.state, "action": episode.action}
        arrays |= {f"frames.{camera}": frames for camera, frames in episode.frames.items()}
        with replacing_file(self._file(episode.seed, "safetensors")) as part:
            save_file(arrays, part, metadata={"success_step": str(episode.success_step or 0)})

    def failure(self, seed: int, steps: int) -> None:
        """Notes a seed whose episode did not succeed within `steps`, and is not kept."""
        write_json(self._file(seed, "json"), {"steps": steps})

    def load(self, seed: int) -> RecordedEpisode:
        """A staged episode."""
        with safe_open(self._file(seed, "safetensors"), framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            success_step = int(file.metadata()["success_step"]) or None
        frames = {key.removeprefix("frames."): a for key, a in arrays.items() if key.startswith("frames.")}
        return RecordedEpisode(seed, frames, arrays["state"], arrays["action"], success_step)

    def discard(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, seed: int, suffix: str) -> Path:
        return self.path / f"{seed:08d}.{suffix}"


def write_dataset(
    out: Path,
    staging: Staging,
    listed: Sequence[Listed],
    *,
    fps: int,
    state_names: Sequence[str],
    action_names: Sequence[str],
    recording: dict[str, Any],
    report: Callable[[int, int], None],
) -> None:
    """Assembles the staged episodes that are listed, in that order, into a LeRobotDataset v3 at `out`.

    Args:
        recording: plain JSON on how the episodes were made; `episodes` and `format` are added to it.
        report: called with the episodes written and the episodes in all.
    """
    av.logging.set_libav_level(av.logging.ERROR)  # or FFmpeg talks through every progress bar
    first = staging.load(listed[0].seed)
    features = {
        "observation.state": {"dtype": "float32", "shape": (len(state_names),), "names": list(state_names)},
        "action": {"dtype": "float32", "shape": (len(action_names),), "names": list(action_names)},
    }
    for camera, frames in first.frames.items():
        features[f"observation.images.{camera}"] = {
            "dtype": "video",
            "shape": frames.shape[1:],
            "names": ["height", "width", "channels"],
        }
    with replacing_folder(out) as part:
        part.rmdir()  # LeRobot insists on making it
        dataset = LeRobotDataset.create(
            repo_id=f"local/{out.name}",
            fps=fps,
            features=features,
            root=part,
            robot_type="sawyer",
            rgb_encoder=RGBEncoderConfig(**ENCODER),
            streaming_encoding=True,
            encoder_queue_maxsize=1024,
        )
        episodes = []
        for index, (seed, task, notes) in enumerate(listed):
            episode = staging.load(seed)
            for t in range(len(episode.action)):
                frame = {f"observation.images.{c}": frames[t] for c, frames in episode.frames.items()}
                dataset.add_frame(
                    {**frame, "observation.state": episode.state[t], "action": episode.action[t], "task": task}
                )
            dataset.save_episode()
            length, success_step = len(episode.action), episode.success_step
            episodes.append({"seed": seed, "length": length, "success_step": success_step, **notes})
            report(index + 1, len(listed))
        dataset.finalize()
        write_json(
            part / "meta" / RECORDING_FILE,
            {"format": FORMAT, **recording, "encoder": ENCODER, "episodes": episodes},
        )


def by_imitation(meta: Any, policy_config: Any, episodes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The episodes that a policy imitates, and those whose tasks are all among its `dynamics_only_tasks`.

    Args:
        meta: of the dataset.
        policy_config: of any LeRobot policy; most know no such tasks.
    """
    only = set(getattr(policy_config, "dynamics_only_tasks", ()))
    if not only:
        return [*episodes], []
    tasks = meta.episodes["tasks"]
    imitated: list[int] = []
    dynamics_only: list[int] = []
    for episode in episodes:
        (dynamics_only if only.issuperset(tasks[episode]) else imitated).append(episode)
    return imitated, dynamics_only


def open_dataset(
    root: Path, repo_id: str | None = None, tolerance_s: float = 1e-4, video_backend: str | None = None
) -> LeRobotDataset:
    """A local dataset, or a `UserError` that says what is wrong with the folder.

    Args:
        tolerance_s: how far a video's frame may be from the time that the dataset gives it, in seconds.
        video_backend: LeRobot's name of what decodes videos; its choice if None.
    """
    if not root.exists():
        raise UserError(f"{root} does not exist; `dap collect --out {root}` makes a dataset")
    if not (root / "meta" / "info.json").exists():
        raise UserError(f"{root} is no LeRobotDataset: meta/info.json is missing")
    try:
        name = repo_id or f"local/{root.name}"
        dataset = LeRobotDataset(
            name, root=root, tolerance_s=tolerance_s, video_backend=video_backend, return_uint8=True
        )
        len(dataset)
    except Exception as error:
        raise UserError(f"{root} is half-written or damaged ({error}); collect it again") from error
    return dataset
