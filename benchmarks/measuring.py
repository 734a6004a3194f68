"""What the benchmark scripts share: the machine, medians, one JSON and one table a script."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lerobot_policy_dap import quiet  # noqa: F401
from lerobot_policy_dap.bench.hardware import hardware
from lerobot_policy_dap.bench.run import versions
from lerobot_policy_dap.files import write_json

BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Processor, cores in use, the vector instructions torch uses, and GPU if there is one."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{hardware()} ({torch.backends.cpu.get_cpu_capability()}), {gpu}"


def report(name: str, title: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Prints a table of the rows and keeps them, with command, versions and hardware, in results/NAME.json."""
    table = Table(*rows[0], title=title, box=None)
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    script = Path(sys.argv[0]).name
    write_json(
        RESULTS / f"{name}.json",
        {
            "title": title,
            "command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            "hardware": machine(),
            "versions": versions(),
            **more,
            "rows": list(rows),
        },
    )


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of each call, the cases taking turns, so that a noisy machine disturbs all of them alike."""
    for call in cases.values():
        for _ in range(warm):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            started = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ms(seconds: Sequence[float]) -> float:
    """Median, in milliseconds."""
    return 1e3 * statistics.median(seconds)


def run(*command: object, **environment: str) -> str:
    """Runs an installed command and returns what it printed; shows it when it fails."""
    done = subprocess.run(
        [str(BIN / str(command[0])), *map(str, command[1:])],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout + done.stderr


def demonstrations(task: str, episodes: int, folder: Path) -> Path:
    """A dataset of the task, collected if it is not there."""
    out = folder / f"{task}-{episodes}"
    run("dap", "collect", "--task", task, "--episodes", episodes, "--out", out)
    return out


def train_flags(dataset: Path, out: Path, steps: int, **more: object) -> list[str]:
    """Flags that `dap train` and `lerobot-train` both take."""
    flags = {
        "dataset.repo_id": f"local/{dataset.name}",
        "dataset.root": dataset,
        "policy.type": "dap",
        "policy.push_to_hub": "false",
        "policy.device": "cpu",
        "output_dir": out,
        "batch_size": 64,
        "steps": steps,
        "seed": 1,
        **more,
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def read_log(run_folder: Path) -> list[dict[str, float]]:
    """The lines of `dap train`'s log."""
    text = (run_folder / "train_log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
