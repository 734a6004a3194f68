"""From measurements to probe.json, rows.parquet and report.html."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray

from ..bench.hardware import hardware
from ..files import replacing_file, write_json
from .dataset import Samples, load_samples
from .distances import moving_dims, overall
from .factors import CLEAN, FACTORS
from .measure import action_std
from .records import ProbeResults
from .report import Example, write_report
from .request import Request, clean_cell
from .results import summarise
from .run import Measured, versions


def publish(request: Request, measured: Measured, out: Path, command: str) -> ProbeResults:
    """Writes the three files into `out` and returns the results."""
    samples = load_samples(measured.setup.samples)
    meta = _describe(request, measured, samples, command)
    results = summarise(request, samples, measured.checkpoints, measured.parts, meta)
    with replacing_file(out / "rows.parquet") as part:
        pq.write_table(_rows(request, measured, samples), part)
    write_json(out / "probe.json", results)
    write_report(out / "report.html", results, list(_examples(request, samples)))
    return results


def _describe(request: Request, measured: Measured, samples: Samples, command: str) -> dict[str, Any]:
    names = action_names(measured.meta)
    std = action_std(measured.meta)
    keep = moving_dims(std)
    return {
        "title": f"Image shifts on {request.repo_id}",
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
        "dataset": request.repo_id,
        "root": str(request.root),
        "robot": measured.meta.robot_type,
        "episodes": list(request.episodes),
        "frames": len(samples),
        "draws": request.draws,
        "batch": request.batch,
        "seed": request.seed,
        "dimensions": [name for name, moves in zip(names, keep, strict=True) if moves],
        "dimensions_std": std[keep].tolist(),
        "still_dimensions": [name for name, moves in zip(names, keep, strict=True) if not moves],
        "factors": [
            {"name": f.name, "quantity": f.quantity, "unit": f.unit, "magnitudes": list(f.magnitudes)}
            for f in (FACTORS[name] for name in request.factors)
        ],
    }


def action_names(meta: Any) -> list[str]:
    """What the dataset calls its action dimensions; their numbers where it does not say."""
    feature = meta.features[ACTION]
    size = int(np.prod(feature["shape"]))
    names = feature.get("names")
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    return [str(name) for name in names] if names and len(names) == size else [str(i) for i in range(size)]


def _rows(request: Request, measured: Measured, samples: Samples) -> pa.Table:
    """One row for each cell and frame."""
    tables = []
    for cell, arrays in measured.parts.items():
        if cell.is_clean:
            continue
        clean = measured.parts[clean_cell(cell.policy)]
        n = len(samples)
        same = {
            "policy": cell.policy.name,
            "factor": cell.factor,
            "severity": cell.severity,
            "magnitude": FACTORS[cell.factor].magnitudes[cell.severity - 1] if cell.severity else 0.0,
            "camera": cell.camera,
        }
        columns: dict[str, Any] = {name: [value] * n for name, value in same.items()}
        columns |= {
            "episode": np.asarray(samples.episode),
            "frame": np.asarray(samples.frame),
            "moved": overall(arrays["moved"]),
            "spread": overall(clean["spread"]),
            "error_clean": overall(clean["error"]),
            "error_shifted": overall(arrays["error"]),
            "moved_by_dimension": list(arrays["moved"]),
            "error_shifted_by_dimension": list(arrays["error"]),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _examples(request: Request, samples: Samples) -> Iterator[Example]:
    """The frame in the middle, as every camera showed it under every condition."""
    i = len(samples) // 2
    for camera, images in samples.images.items():
        frames: NDArray[np.uint8] = np.asarray(images[i, -1:])
        yield Example(camera, CLEAN, 0, frames[0])
        for name in request.factors:
            for severity in sorted(set(request.severities) - {0}):
                episode, frame = int(samples.episode[i]), int(samples.frame[i])
                shifted = FACTORS[name].shift(frames, severity, request.seed, camera, episode, frame)
                yield Example(camera, name, severity, shifted[0])
