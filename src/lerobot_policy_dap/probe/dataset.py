"""Which frames of a LeRobotDataset are shown, and the reading of them, once, into plain arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray

from ..errors import UserError
from ..files import read_json, replacing_folder

Report = Callable[[int, int], None]
"""Called with the frames read and the frames in all."""


@dataclass(frozen=True, eq=False)
class Samples:
    """N frames, each with the T observations up to it and the H demonstrated actions from it on."""

    episode: NDArray[np.int64]
    """`[N]`"""
    frame: NDArray[np.int64]
    """`[N]`, counted from the episode's first."""
    images: dict[str, NDArray[np.uint8]]
    """RGB cameras: `[N, T, height, width, 3]`; heights and widths differ between cameras."""
    others: dict[str, NDArray[np.float32]]
    """Every other observation that a policy takes, `[N, T, …]`."""
    action: NDArray[np.float32]
    """`[N, H, A]`, in the dataset's units."""
    valid: NDArray[np.bool_]
    """`[N, H]`: false past the episode's end, where `action` repeats its last."""
    task: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.episode)


def open_metadata(root: Path, repo_id: str) -> Any:
    """The dataset's metadata, of a folder on this machine.

    Raises:
        UserError: there is no dataset that this version of LeRobot reads, it has no actions, or no RGB camera.
    """
    if not (root / "meta" / "info.json").is_file():
        raise UserError(f"{root} is no LeRobotDataset: it has no meta/info.json")
    try:
        meta = LeRobotDatasetMetadata(repo_id, root=root)
        meta.ensure_readable()
    except Exception as error:
        raise UserError(f"{root} is not readable as a LeRobotDataset ({_first_line(error)})") from error
    if ACTION not in meta.features:
        raise UserError(f"{root} has no feature 'action'; there is nothing to compare a policy with")
    if not rgb_cameras(meta):
        raise UserError(f"{root} has no images; there is nothing to shift")
    return meta


def rgb_cameras(meta: Any) -> list[str]:
    """The features that hold RGB pictures, not depth."""
    depth = set(getattr(meta, "depth_keys", ()))
    return [key for key in meta.camera_keys if key not in depth]


def parse_episodes(text: str, total: int) -> tuple[int, ...]:
    """Episodes such as "40-49" or "3,7,10-12"; a fraction such as "0.1" is the last tenth, two at least.

    Raises:
        UserError: it is neither, or names an episode that the dataset does not have, or fewer than two.
    """
    wrong = UserError(
        f"--episodes is {text!r}; give numbers and ranges such as 3,40-49, or a fraction such as 0.1"
    )
    chosen: list[int] = []
    try:
        if "." in text:
            share = float(text)
            if not 0 < share <= 1:
                raise wrong
            chosen = list(range(total - min(max(round(share * total), 2), total), total))
        else:
            for word in text.split(","):
                first, _, last = word.strip().partition("-")
                chosen += range(int(first), int(last or first) + 1)
    except ValueError:
        raise wrong from None
    for episode in chosen:
        if not 0 <= episode < total:
            raise UserError(f"there is no episode {episode}; the dataset has {total}, 0 to {total - 1}")
    found = tuple(sorted(set(chosen)))
    if len(found) < 2:
        raise UserError(
            f"--episodes {text} is {len(found)} episode; intervals are over whole episodes: name at least two"
        )
    return found


def spread_frames(lengths: Sequence[int], frames: int) -> list[NDArray[np.int64]]:
    """For each episode, which of its frames are shown: `frames` in all where there are as many, evenly spaced.

    Every episode shows one at least, so that there may be a few more than asked for.
    """
    share, rest = divmod(frames, len(lengths))
    chosen = []
    for i, length in enumerate(lengths):
        n = min(max(share + (i < rest), 1), length)
        chosen.append(((np.arange(n) + 0.5) / n * length).astype(np.int64))
    return chosen


def read_samples(
    meta: Any,
    episodes: Sequence[int],
    frames: int,
    inputs: Sequence[str],
    history: int,
    horizon: int,
    report: Report | None = None,
) -> Samples:
    """Reads frames spread evenly over the episodes.

    Args:
        inputs: the observations to read, in the dataset's names.
        history: T, observations up to the frame; before the first, the first is repeated, as policies do it.
        horizon: H, demonstrated actions from the frame on.

    Raises:
        UserError: something cannot be read or decoded.
    """
    deltas = {key: [i / meta.fps for i in range(1 - history, 1)] for key in inputs}
    deltas[ACTION] = [i / meta.fps for i in range(horizon)]
    cameras = [key for key in inputs if key in rgb_cameras(meta)]
    starts = [int(meta.episodes[e]["dataset_from_index"]) for e in episodes]
    lengths = [
        int(meta.episodes[e]["dataset_to_index"]) - start for e, start in zip(episodes, starts, strict=True)
    ]
    chosen = spread_frames(lengths, frames)
    total = sum(map(len, chosen))
    items: list[dict[str, Any]] = []
    where: list[tuple[int, int]] = []
    try:
        dataset = LeRobotDataset(
            meta.repo_id, root=meta.root, episodes=list(episodes), delta_timestamps=deltas, return_uint8=True
        )
        table = dataset.hf_dataset.select_columns(["index"]).with_format("arrow")[:]
        row_of = {index: row for row, index in enumerate(table.column("index").to_pylist())}
        for episode, start, inside in zip(episodes, starts, chosen, strict=True):
            for frame in inside.tolist():
                items.append(_arrays(dataset[row_of[start + frame]], meta, inputs, cameras))
                where.append((episode, frame))
                if report is not None:
                    report(len(items), total)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot read {meta.root} ({_first_line(error)}); is the dataset whole?") from error
    return Samples(
        episode=np.array([episode for episode, _ in where], np.int64),
        frame=np.array([frame for _, frame in where], np.int64),
        images={key: np.stack([item[key] for item in items]) for key in cameras},
        others={key: np.stack([item[key] for item in items]) for key in inputs if key not in cameras},
        action=np.stack([item[ACTION] for item in items]),
        valid=np.stack([item["valid"] for item in items]),
        task=tuple(item["task"] for item in items),
    )


def _arrays(item: dict[str, Any], meta: Any, inputs: Sequence[str], cameras: Sequence[str]) -> dict[str, Any]:
    arrays: dict[str, Any] = {"task": str(item["task"]), "valid": ~item[f"{ACTION}_is_pad"].numpy()}
    for key in (*inputs, ACTION):
        value = item[key]
        if key in meta.camera_keys and value.ndim == 3:
            value = value[None]  # LeRobot drops the time axis of a single video frame
        if key in cameras:
            if value.dtype != torch.uint8:  # image storage comes as floats in [0, 1]
                value = (value * 255).round().to(torch.uint8)
            arrays[key] = np.ascontiguousarray(value.permute(0, 2, 3, 1).numpy())
        elif key in meta.camera_keys:  # depth
            arrays[key] = value.float().numpy()
        else:  # LeRobot keeps a feature of shape (1,) as a scalar
            arrays[key] = value.float().numpy().reshape(len(value), *meta.features[key]["shape"])
    return arrays


def save_samples(folder: Path, samples: Samples) -> None:
    """Writes the arrays, so that processes share them and an interrupted run need not decode again."""
    with replacing_folder(folder) as part:
        arrays: dict[str, NDArray[Any]] = {
            "episode": samples.episode,
            "frame": samples.frame,
            ACTION: samples.action,
            "valid": samples.valid,
            **samples.images,
            **samples.others,
        }
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array, allow_pickle=False)
        names = {"images": list(samples.images), "others": list(samples.others), "task": samples.task}
        (part / "samples.json").write_text(json.dumps(names), encoding="utf-8")


def load_samples(folder: Path) -> Samples:
    """What `save_samples` wrote, mapped into memory."""
    names = read_json(folder / "samples.json")

    def array(name: str) -> NDArray[Any]:
        try:
            found: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder}/{name}.npy is not readable ({error}); delete {folder} and run again"
            ) from error
        return found

    return Samples(
        episode=array("episode"),
        frame=array("frame"),
        images={key: array(key) for key in names["images"]},
        others={key: array(key) for key in names["others"]},
        action=array(ACTION),
        valid=array("valid"),
        task=tuple(names["task"]),
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
