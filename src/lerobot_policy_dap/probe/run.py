"""Carries out a request: cells over processes, each kept as soon as it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..checkpoints import ACTING_FILES, WEIGHTS_FILE
from ..files import claim_folder, sha256, sha256_of_files
from ..processes import each
from .dataset import load_samples, open_metadata, read_samples, save_samples
from .measure import Arrays, Setup, action_std, measure, read_part, write_part
from .planner import Checkpoint
from .request import Cell, Request, clean_cell, shifted_cells

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""


@dataclass(frozen=True)
class Measured:
    """Everything that was measured."""

    setup: Setup
    meta: Any
    checkpoints: dict[str, Checkpoint]
    parts: dict[Cell, Arrays]


def versions() -> str:
    """What a measurement depends on, as one string."""
    names = {"dap": "lerobot_policy_dap", "lerobot": "lerobot", "torch": "torch"}
    return ", ".join(f"{label} {version(name)}" for label, name in names.items())


def run(request: Request, out: Path, workers: int, device: str, progress: Progress) -> Measured:
    """Measures what is not measured yet and returns all of it.

    Factors and severities may be added to a folder later; frames, seeds, checkpoints and the kind of device, on which
    a policy's noise depends, may not change.

    Raises:
        UserError: a policy does not fit the dataset, or `out` holds another probe.
    """
    meta = open_metadata(request.root, request.repo_id)
    action_std(meta)
    checkpoints = {policy.name: Checkpoint(policy.folder, meta) for policy in request.policies}
    setup = Setup(out, request.root, request.repo_id, request.draws, request.batch, request.seed, device)
    claim_folder(out, "probe_request.json", _claim(request, device), "a probe")
    _prepare_samples(request, meta, list(checkpoints.values()), setup, progress)

    clean = [clean_cell(policy) for policy in request.policies]
    shifted = [
        cell
        for policy in request.policies
        for cell in shifted_cells(request, policy, checkpoints[policy.name].cameras)
    ]
    total = len(clean) + len(shifted)
    done = sum(setup.part(cell).exists() for cell in (*clean, *shifted))
    progress("probing", done, total)
    for cells in (clean, shifted):  # every shifted cell is compared with its policy's clean one
        missing = [cell for cell in cells if not setup.part(cell).exists()]
        for cell, arrays in each(partial(measure, setup=setup), missing, workers):
            write_part(setup.part(cell), arrays)
            done += 1
            progress("probing", done, total)
    return Measured(setup, meta, checkpoints, {cell: read_part(setup.part(cell)) for cell in (*clean, *shifted)})


def _prepare_samples(
    request: Request, meta: Any, checkpoints: list[Checkpoint], setup: Setup, progress: Progress
) -> None:
    if setup.samples.exists():
        load_samples(setup.samples)
        return
    samples = read_samples(
        meta,
        request.episodes,
        request.frames,
        inputs=list(dict.fromkeys(key for checkpoint in checkpoints for key in checkpoint.inputs)),
        history=max(checkpoint.history for checkpoint in checkpoints),
        horizon=max(checkpoint.steps for checkpoint in checkpoints),
        report=partial(progress, "reading frames"),
    )
    save_samples(setup.samples, samples)


def _claim(request: Request, device: str) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {
        "dataset": str(request.root.resolve()),
        "dataset_info": sha256(request.root / "meta" / "info.json"),
        "episodes": list(request.episodes),
        "frames": request.frames,
        "draws": request.draws,
        "batch": request.batch,
        "seed": request.seed,
        "versions": versions(),
        "device": device.partition(":")[0],
        "acting": {policy.name: sha256_of_files(policy.folder, ACTING_FILES) for policy in request.policies},
        "checkpoints": {policy.name: sha256(policy.folder / WEIGHTS_FILE) for policy in request.policies},
    }
