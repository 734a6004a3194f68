"""Training samples per second: `dap train` against `lerobot-train`, same policy, data, batch and workers.

Both write their own account of each window of steps: time of the update and time waited for data. The first
window of each is warm-up and left out. The dataset is stored as video; decoding it into the frame store happens
once, before the first step, and is reported beside.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from measuring import demonstrations, read_log, report, run, train_flags


def main(
    data: Annotated[Path, typer.Option(help="Folder for the dataset.")] = Path("outputs/benchmarks"),
    coupling: Annotated[str, typer.Option(help="Arms, separated by commas.")] = "none,two_way",
    batch: int = 64,
    window: Annotated[int, typer.Option(help="Steps in a window.")] = 20,
    windows: Annotated[int, typer.Option(help="Windows measured, after one of warm-up.")] = 3,
    workers: Annotated[int, typer.Option(help="Loader processes of lerobot-train; dap train needs none.")] = 2,
) -> None:
    dataset = demonstrations("drawer-open", 50, data)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for arm in coupling.split(","):
            for tool in ("lerobot-train", "dap train"):
                out = Path(scratch) / f"{tool.replace(' ', '-')}-{arm}"
                flags = train_flags(
                    dataset, out, window * (windows + 1), batch_size=batch, log_freq=window,
                    num_workers=workers, save_checkpoint="false", **{"policy.coupling": arm},
                )  # fmt: skip
                started = time.perf_counter()
                printed = run(*tool.split(), *flags)
                whole = time.perf_counter() - started
                if tool == "dap train":
                    log = [(row["step_s"], row["data_s"]) for row in read_log(out)]
                else:
                    found = re.findall(r"updt_s:([\d.]+) data_s:([\d.]+)", printed)
                    log = [(float(update) + float(data_s), float(data_s)) for update, data_s in found]
                step, wait = (statistics.median(column) for column in zip(*log[1:], strict=True))
                rows.append(
                    {
                        "arm": arm,
                        "tool": tool,
                        "samples/s": batch / step,
                        "step ms": 1e3 * step,
                        "waiting for data": f"{100 * wait / step:.1f} %",
                        "whole command s": whole,
                    }
                )
            rows[-1]["ratio"] = f"{rows[-1]['samples/s'] / rows[-2]['samples/s']:.2f}x"
            rows[-2]["ratio"] = "1x"
    report("train_throughput", "Training: dap train against lerobot-train", rows, batch=batch, workers=workers)


if __name__ == "__main__":
    typer.run(main)
