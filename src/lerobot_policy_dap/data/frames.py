"""The decoded frame store: every camera frame of a dataset, decoded once, as raw bytes on disk.

Training reads frames at random; a video pays a seek and several decodes for each. The store costs the raw size
on disk (uint8), is mapped into memory, so that processes share it and it may be larger than RAM, and a batch is
one gather. A store belongs to one version of one dataset: its folder's name is a digest of both.

    <folder>/<digest>/
        <camera>.u8        frames [N, H, W, 3], one after the other
        progress.json      episodes decoded so far; the frames of a killed run are kept
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import decode_video_frames
from numpy.typing import NDArray

from ..errors import UserError
from ..files import read_json, write_json

PROGRESS_FILE = "progress.json"
_AT_ONCE = 256  # frames that are decoded before they are written
_LOADED_AS = {"f": np.float32, "i": np.int64, "u": np.int64}  # whatever a dataset's files hold, by kind of number

Report = Callable[[int, int], None]
"""Called with the episodes done and the episodes in all."""


def default_folder() -> Path:
    """`$DAP_CACHE/frames`, or `~/.cache/lerobot_policy_dap/frames`."""
    cache = os.environ.get("DAP_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "lerobot_policy_dap") / "frames"


class FrameStore:
    """Frames of a whole dataset, by camera and absolute frame index.

    Args:
        dataset: a LeRobotDataset of all episodes, video or image storage.
        cameras: image features to keep.
        folder: where stores live; `default_folder()` if None.
        report: called after each decoded episode.

    Raises:
        UserError: a camera is missing, a frame cannot be decoded, or the disk is full.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        cameras: Sequence[str],
        folder: Path | None = None,
        report: Report | None = None,
    ) -> None:
        for camera in cameras:
            if camera not in dataset.meta.camera_keys:
                known = ", ".join(dataset.meta.camera_keys) or "none"
                raise UserError(f"{dataset.root} has no camera {camera!r}; it has: {known}")
        self.path = (folder or default_folder()) / _digest(dataset, cameras)
        shapes = {camera: (dataset.meta.total_frames, *_size(dataset, camera), 3) for camera in cameras}
        if cameras:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):  # two trainings may start on one dataset
                _decode(dataset, shapes, self.path, report)
        self._frames: dict[str, NDArray[np.uint8]] = {
            camera: np.memmap(self.path / _file(camera), dtype=np.uint8, mode="r", shape=shape)
            for camera, shape in shapes.items()
        }

    def gather(self, camera: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames `[..., H, W, 3]` at the absolute frame indices `[...]`."""
        return np.asarray(self._frames[camera][indices])


def _decode(
    dataset: LeRobotDataset, shapes: Mapping[str, tuple[int, ...]], path: Path, report: Report | None
) -> None:
    """Appends what is missing, episode by episode; frames behind the recorded progress are cut off first."""
    progress = path / PROGRESS_FILE
    whole = progress.exists() and all((path / _file(camera)).exists() for camera in shapes)
    done = int(read_json(progress)["episodes"]) if whole else 0
    total = dataset.meta.total_episodes
    path.mkdir(parents=True, exist_ok=True)
    try:
        for episode in range(done, total):
            start = dataset.meta.episodes[episode]["dataset_from_index"]
            for camera, shape in shapes.items():
                frame_bytes = int(np.prod(shape[1:]))
                with (path / _file(camera)).open("ab") as file:
                    file.truncate(start * frame_bytes)
                    for frames in _episode_frames(dataset, episode, camera):
                        _check_size(dataset, camera, frames.shape[1:], shape[1:])
                        file.write(np.ascontiguousarray(frames).data)
                    file.flush()
                    os.fsync(file.fileno())  # before the progress file says that they are there
            write_json(progress, {"episodes": episode + 1, "root": str(dataset.root)})
            if report is not None:
                report(episode + 1, total)
    except OSError as error:
        raise UserError(
            f"cannot write decoded frames to {path} ({error.strerror}); --frames-dir chooses another place"
        ) from error


def _check_size(dataset: LeRobotDataset, camera: str, found: tuple[int, ...], told: tuple[int, ...]) -> None:
    """The store finds frames by the size that the dataset tells of them, which LeRobot's own loader never needs."""
    if found != told:
        sizes = " and not ".join(" x ".join(map(str, size[:2])) for size in (found, told))
        raise UserError(
            f"frames of {camera} are {sizes} pixels (height x width), as {dataset.root / 'meta' / 'info.json'} has it; "
            "correct its shape there"
        )


def _episode_frames(dataset: LeRobotDataset, episode: int, camera: str) -> Iterator[NDArray[np.uint8]]:
    """The frames `[n, H, W, 3]` of an episode, a part of it at a time: the whole may not fit into memory."""
    row = dataset.meta.episodes[episode]
    first, last = row["dataset_from_index"], row["dataset_to_index"]
    if camera not in dataset.meta.video_keys:
        images = dataset.hf_dataset.select_columns([camera])  # and no other camera's is decoded
        for i in range(first, last):
            yield np.rint(np.asarray(images[i][camera]).transpose(1, 2, 0) * 255).astype(np.uint8)[None]
        return
    path = dataset.root / dataset.meta.get_video_file_path(episode, camera)
    start = row[f"videos/{camera}/from_timestamp"]
    for part in range(0, last - first, _AT_ONCE):
        times = [start + i / dataset.fps for i in range(part, min(part + _AT_ONCE, last - first))]
        try:
            frames = decode_video_frames(
                path, times, dataset.tolerance_s, dataset._video_backend, return_uint8=True
            )
        except Exception as error:
            raise UserError(
                f"cannot decode episode {episode} of {path} ({error}); is the dataset whole?"
            ) from error
        yield frames.numpy().transpose(0, 2, 3, 1)


def _size(dataset: LeRobotDataset, camera: str) -> tuple[int, int]:
    feature = dataset.meta.features[camera]
    shape = tuple(feature["shape"])
    height, width = shape[1:] if (feature.get("names") or [""])[0].startswith("channel") else shape[:2]
    return height, width


def _file(camera: str) -> str:
    return f"{camera}.u8"


def _digest(dataset: LeRobotDataset, cameras: Sequence[str]) -> str:
    """Names the dataset's content without reading its videos: place, metadata, sizes and times of its files."""
    digest = hashlib.sha256(json.dumps([str(Path(dataset.root).resolve()), sorted(cameras)]).encode())
    digest.update((Path(dataset.root) / "meta" / "info.json").read_bytes())
    for path in sorted(Path(dataset.root).rglob("*")):
        if path.suffix in (".mp4", ".parquet"):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def numeric_columns(dataset: LeRobotDataset) -> dict[str, NDArray[Any]]:
    """Every feature of the dataset that is no image, as one array `[N, …]` each, in the types of LeRobot's loader."""
    table = dataset.hf_dataset.with_format("arrow")[:]
    columns: dict[str, NDArray[Any]] = {}
    for key, feature in dataset.meta.features.items():
        if feature["dtype"] in ("video", "image", "string", "language") or key not in table.column_names:
            continue
        column = table.column(key).combine_chunks()
        while hasattr(column, "flatten") and column.type.num_fields:
            column = column.flatten()
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind in _LOADED_AS:
            values = values.astype(_LOADED_AS[values.dtype.kind])
        # LeRobot keeps a feature of shape (1,) as a scalar.
        shape = () if values.size == table.num_rows else feature["shape"]
        columns[key] = np.array(values.reshape(table.num_rows, *shape))  # Arrow lends read-only memory
    return columns
