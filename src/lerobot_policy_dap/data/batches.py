"""Batches as LeRobot's loader makes them, gathered from the frame store without decoding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from lerobot.datasets import EpisodeAwareSampler, compute_sampler_state
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from .frames import FrameStore, numeric_columns

Transform = Callable[[Tensor], Tensor]


class BatchSource:
    """Assembles the same batches as `torch.utils.data.default_collate` over a LeRobotDataset's items.

    Args:
        dataset: all episodes, without delta timestamps.
        store: the dataset's decoded frames.
        cameras: image features to put into a batch.
        delta_indices: for each feature, offsets in frames from the sampled one.
        image_transforms: LeRobot's augmentation of a sample's frames `[T, C, H, W]`, uint8.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        store: FrameStore,
        cameras: Sequence[str],
        delta_indices: Mapping[str, Sequence[int]],
        image_transforms: Transform | None = None,
    ) -> None:
        self.store = store
        self.cameras = tuple(cameras)
        self.deltas = {key: np.asarray(value, dtype=np.int64) for key, value in delta_indices.items()}
        self.transforms = image_transforms
        self.columns = {key: torch.from_numpy(values) for key, values in numeric_columns(dataset).items()}
        self.tasks = [str(name) for name in dataset.meta.tasks.index]
        self.starts = np.asarray(dataset.meta.episodes["dataset_from_index"], dtype=np.int64)
        self.ends = np.asarray(dataset.meta.episodes["dataset_to_index"], dtype=np.int64)
        self.episode_of = self.columns["episode_index"].numpy()

    def batch(self, indices: NDArray[np.int64], as_recorded: bool = False) -> dict[str, Any]:
        """The batch of the absolute frame indices `[B]`: images uint8 `[B, T, C, H, W]`, the rest as stored.

        Images `as_recorded` are not augmented.
        """
        transforms = None if as_recorded else self.transforms
        batch: dict[str, Any] = {}
        for key in (*self.columns, *self.cameras):
            deltas = self.deltas.get(key)
            where = indices if deltas is None else self._window(indices, deltas)
            if deltas is not None:
                batch[f"{key}_is_pad"] = torch.from_numpy(where != indices[:, None] + deltas)
            batch[key] = self._images(key, where, transforms) if key in self.cameras else self.columns[key][where]
        batch["task"] = [self.tasks[i] for i in self.columns["task_index"][indices].tolist()]
        return batch

    def _window(self, indices: NDArray[np.int64], deltas: NDArray[np.int64]) -> NDArray[np.int64]:
        """Absolute indices `[B, T]`, held inside each frame's own episode."""
        episode = self.episode_of[indices]
        wanted = indices[:, None] + deltas
        clipped: NDArray[np.int64] = wanted.clip(self.starts[episode][:, None], self.ends[episode][:, None] - 1)
        return clipped

    def _images(self, camera: str, where: NDArray[np.int64], transforms: Transform | None) -> Tensor:
        frames = torch.from_numpy(self.store.gather(camera, where)).movedim(-1, -3)
        if transforms is None:
            return frames
        return torch.stack([transforms(sample) for sample in frames])


class Order(Protocol):
    """Which frames make up which training step."""

    def next(self) -> NDArray[np.int64]:
        """Absolute frame indices of this process's part of the next step."""
        ...


class Batches:
    """The batches of a training, each gathered by a thread while the step before it is computed.

    Args:
        source: makes a batch; with image transforms, which draw from torch's generator as the step does, it makes
            each when it is asked for.
        order: which frames are in it.
        pin: whether a batch is put where a GPU can fetch it by itself.
    """

    def __init__(self, source: BatchSource, order: Order, pin: bool = False) -> None:
        self.source = source
        self.order = order
        self.pin = pin
        self._thread = ThreadPoolExecutor(1, "batches") if source.transforms is None else None
        self._ahead: Future[dict[str, Any]] | None = None

    def next(self) -> dict[str, Any]:
        """The next step's batch, as of `BatchSource.batch`."""
        if self._thread is None:
            return self._load()
        ready = self._ahead or self._thread.submit(self._load)
        batch = ready.result()
        self._ahead = self._thread.submit(self._load)
        return batch

    def close(self) -> None:
        """Ends the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _load(self) -> dict[str, Any]:
        batch = self.source.batch(self.order.next())
        if self.pin:
            batch |= {key: value.pin_memory() for key, value in batch.items() if isinstance(value, Tensor)}
        return batch


class BatchOrder:
    """Which frames make up which training step: a pure function of seed and step, so a resumed run goes on.

    The order is that of LeRobot's sampler. A step takes `batch_size` frames for every process; each process
    keeps its own stride of them, so that several processes see what one would with the larger batch.

    Args:
        before: batch size and processes of the steps up to `step`, where they were others.
    """

    def __init__(
        self,
        sampler: EpisodeAwareSampler,
        batch_size: int,
        num_processes: int,
        rank: int,
        step: int = 0,
        before: tuple[int, int] | None = None,
    ) -> None:
        self.sampler = sampler
        self.global_batch = batch_size * num_processes
        self.num_processes = num_processes
        self.rank = rank
        if len(sampler) < num_processes:
            raise UserError(
                f"the dataset has {len(sampler)} usable frames, fewer than the {num_processes} processes"
            )
        sampler.load_state_dict(
            compute_sampler_state(step, len(sampler), *(before or (batch_size, num_processes)))
        )
        self._epoch = iter(sampler)

    def next(self) -> NDArray[np.int64]:
        """Absolute frame indices of this process's part of the next step."""
        indices = list(itertools.islice(self._epoch, self.global_batch))
        if not indices:
            self._epoch = iter(self.sampler)
            indices = list(itertools.islice(self._epoch, self.global_batch))
        while len(indices) < self.num_processes:  # an epoch's end may be small, and each process must have a part
            indices += indices[: self.num_processes - len(indices)]
        return np.asarray(indices[self.rank :: self.num_processes], dtype=np.int64)


class JoinedOrder:
    """The frames of several orders in every step, one order's behind the other's."""

    def __init__(self, *orders: Order) -> None:
        self.orders = orders

    def next(self) -> NDArray[np.int64]:
        """As `BatchOrder.next`."""
        return np.concatenate([order.next() for order in self.orders])
