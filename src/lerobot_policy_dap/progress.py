"""Progress bars and stage times on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .files import read_json, write_json

console = Console(stderr=True)


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(name, done, total)`, which makes and moves one bar a name."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Work comes in units of seconds to minutes, so that the speed is taken over many of them.
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        ids: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in ids:
                # What was done before, in an interrupted run, says nothing of the speed.
                ids[name] = progress.add_task(name, total=total, completed=done)
            progress.update(ids[name], completed=done, total=total)

        yield report


class StageTimes:
    """Seconds spent in each stage of a long command, over all its interrupted runs.

    Args:
        path: where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block to `name`, however the block ends."""
        started = time.monotonic()
        before = self.seconds.get(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(before + time.monotonic() - started, 1)
            write_json(self.path, self.seconds)

    def rows(self) -> list[dict[str, Any]]:
        """For the report."""
        return [{"name": name, "seconds": seconds} for name, seconds in self.seconds.items()]

    def print(self) -> None:
        """One line a stage, and the sum."""
        for name, seconds in [*self.seconds.items(), ("total", sum(self.seconds.values()))]:
            console.print(f"  {name:<12} {seconds / 60:5.1f} min")
