"""The frame store: bytes on disk against raw frames, and memory while training reads a store larger than RAM.

The second part makes a store of zeros (a sparse file, so that it needs no disk) of twice the machine's memory,
maps it as training does, gathers random batches from all over it, and reads from /proc what the process holds for
itself (RssAnon). Mapped pages are the system's cache, which it takes back as it needs; processes share them.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from measuring import demonstrations, report

from lerobot_policy_dap.data.demonstrations import open_dataset
from lerobot_policy_dap.data.frames import FrameStore

MB = 2**20


def main(
    data: Annotated[Path, typer.Option(help="Folder for the dataset and the store.")] = Path("outputs/benchmarks"),
    times_memory: Annotated[float, typer.Option(help="Size of the large store, in machine memories.")] = 2.0,
    batches: int = 200,
) -> None:
    dataset = open_dataset(demonstrations("drawer-open", 50, data), "local/drawer-open")
    started = time.perf_counter()
    store = FrameStore(dataset, dataset.meta.camera_keys, data / "frames")
    decoding = time.perf_counter() - started
    raw = dataset.meta.total_frames * int(np.prod(dataset.meta.features[dataset.meta.camera_keys[0]]["shape"]))
    disk = sum(file.stat().st_blocks * 512 for file in store.path.rglob("*"))
    rows = [
        {"what": "raw uint8 frames", "MB": raw / MB, "ratio": "1x"},
        {"what": "frame store on disk", "MB": disk / MB, "ratio": f"{disk / raw:.3f}x"},
    ]

    memory = _kilobytes("/proc/meminfo", "MemTotal") * 1024
    shape = (int(times_memory * memory) // (84 * 84 * 3), 84, 84, 3)
    large = data / "frames" / "large.u8"
    with large.open("wb") as file:
        file.truncate(int(np.prod(shape)))
    try:
        store._frames = {"camera": np.memmap(large, dtype=np.uint8, mode="r", shape=shape)}
        rng = np.random.default_rng(0)
        before = _kilobytes("/proc/self/status", "RssAnon")
        grown = 0
        for _ in range(batches):
            kept = store.gather("camera", rng.integers(0, len(store._frames["camera"]), (64, 2)))
            assert kept.shape == (64, 2, 84, 84, 3)  # and held while its memory is read
            grown = max(grown, _kilobytes("/proc/self/status", "RssAnon") - before)
    finally:
        large.unlink()
    batch_mb = 128 * 84 * 84 * 3 / MB
    rows += [
        {"what": "large store", "MB": np.prod(shape, dtype=float) / MB, "ratio": f"{times_memory:g}x memory"},
        {
            "what": "own memory it takes to read it",
            "MB": grown / 1024,
            "ratio": f"{grown / 1024 / batch_mb:.1f} batches",
        },
    ]
    report("frame_store", "The decoded frame store", rows, decoding_s=round(decoding, 2), batches=batches)


def _kilobytes(file: str, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(file).read_text(encoding="utf-8"))
    assert found
    return int(found.group(1))


if __name__ == "__main__":
    typer.run(main)
