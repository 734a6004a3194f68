"""Measures one cell: what a policy plans on clean frames, and how far a shift moves that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray

from ..errors import UserError
from ..files import replacing_file
from .dataset import Samples, load_samples, open_metadata
from .distances import by_dimension, moving_dims
from .factors import CLEAN, FACTORS
from .planner import Checkpoint, ChunkPlanner
from .request import ALL_CAMERAS, Cell, clean_cell

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setup:
    """Where a process finds what it needs. `folder` holds samples and parts."""

    folder: Path
    root: Path
    repo_id: str
    draws: int
    batch: int
    seed: int
    device: str

    @property
    def samples(self) -> Path:
        """The decoded frames."""
        return self.folder / "samples"

    def part(self, cell: Cell) -> Path:
        """The file of a cell's measurements."""
        return self.folder / "parts" / cell.part


def measure(cell: Cell, setup: Setup) -> Arrays:
    """What a cell's part file holds.

    Returns:
        Of a clean cell: `chunk` `[N, steps, A]` in the dataset's units; `error` `[N, A]`, its distance from the
        demonstrated actions by dimension; `spread` `[N, A]`, its RMS distance from chunks of other noise.
        Of a shifted cell: `moved` `[N, A]`, the distance between its chunk and the clean one of the same noise;
        `error` as above. Distances are as in `distances`; only dimensions that move in the dataset are kept.
    """
    planner, samples, std = _loaded(cell.policy.folder, setup)
    keep = moving_dims(std)

    def distance(one: NDArray[Any], other: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        return by_dimension(one[..., keep], other[..., keep], std[keep], valid)

    chunk = _plan(planner, samples, cell, setup, draw=0)
    if not np.isfinite(chunk).all():
        under = f"under {cell.factor} {cell.severity}" if cell.severity else "on frames as recorded"
        raise UserError(f"{cell.policy.name} plans actions that are not finite {under}; leave it, or that, out")
    steps = chunk.shape[1]
    error = distance(chunk, samples.action[:, :steps], samples.valid[:, :steps])
    if cell.is_clean:
        others = [_plan(planner, samples, cell, setup, draw=1 + i) for i in range(setup.draws)]
        spread = np.sqrt(np.mean([distance(chunk, other) ** 2 for other in others], axis=0))
        return {"chunk": chunk, "error": error, "spread": spread}
    clean = read_part(setup.part(clean_cell(cell.policy)))["chunk"]
    return {"moved": distance(chunk, clean), "error": error}


def _plan(planner: ChunkPlanner, samples: Samples, cell: Cell, setup: Setup, draw: int) -> NDArray[np.float32]:
    chunks = []
    for rows in _batches(len(samples), setup.batch):
        images = {camera: _shown(samples, cell, camera, rows, setup.seed) for camera in planner.checkpoint.cameras}
        others = {key: value[rows] for key, value in samples.others.items() if key in planner.checkpoint.inputs}
        seed = int(np.random.SeedSequence([setup.seed, rows.start, draw]).generate_state(1)[0])
        chunks.append(planner.plan(images, others, samples.task[rows], seed))
    return np.concatenate(chunks)


def _shown(samples: Samples, cell: Cell, camera: str, rows: slice, seed: int) -> NDArray[np.uint8]:
    frames = samples.images[camera][rows]
    if cell.factor == CLEAN or cell.camera not in (camera, ALL_CAMERAS):
        return np.asarray(frames)
    where = zip(frames, samples.episode[rows].tolist(), samples.frame[rows].tolist(), strict=True)
    factor = FACTORS[cell.factor]
    return np.stack([factor.shift(f, cell.severity, seed, camera, episode, frame) for f, episode, frame in where])


def _batches(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


@lru_cache(maxsize=1)  # cells come policy by policy, and several large ones would not fit
def _loaded(checkpoint: Path, setup: Setup) -> tuple[ChunkPlanner, Samples, NDArray[np.float64]]:
    meta = open_metadata(setup.root, setup.repo_id)
    planner = ChunkPlanner(Checkpoint(checkpoint, meta), setup.device)
    return planner, load_samples(setup.samples), action_std(meta)


def action_std(meta: Any) -> NDArray[np.float64]:
    """Standard deviation of every action dimension over the dataset, `[A]`.

    Raises:
        UserError: the dataset has no statistics, or its actions never move.
    """
    found = (meta.stats or {}).get(ACTION, {}).get("std")
    if found is None:
        raise UserError(f"{meta.root} has no statistics of its actions (meta/stats.json); make them with LeRobot")
    std = np.asarray(found, np.float64).reshape(-1)
    if not moving_dims(std).any():
        raise UserError(f"{meta.root}: no action dimension ever moves; there is no unit to measure in")
    return std


def write_part(path: Path, arrays: Arrays) -> None:
    """Writes a cell's measurements, whole or not at all."""
    with replacing_file(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_part(path: Path) -> Arrays:
    """What `write_part` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:
        raise UserError(f"{path} is not readable ({error}); delete it and run the command again") from error
