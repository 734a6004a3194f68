"""What trainings and episodes of a round cost: as measured in it, and before that as costs.json has it."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from measuring import machine

from lerobot_policy_dap.files import read_json

SHIPPED = Path(__file__).parent / "costs.json"


class Costs:
    """Measurements, one JSON object a line; a line that a kill has cut is left out.

    Args:
        path: where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                self.rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        self._shipped: dict[str, Any] = read_json(SHIPPED)

    def trained(self, kind: str, steps: int, seconds: float) -> None:
        """A training, in one process of a thread; one that was resumed counts less than it took."""
        self._add({"kind": kind, "seconds_a_step": seconds / steps})

    def evaluated(self, episodes: int, seconds: float, workers: int) -> None:
        """An evaluation of so many episodes by so many processes."""
        self._add({"episodes_a_second": episodes / seconds / workers})

    def training(self, kind: str, steps: int) -> float:
        """Seconds of a training of one coupling, or of another policy's type."""
        own = [row["seconds_a_step"] for row in self.rows if row.get("kind") == kind]
        return steps * (statistics.median(own) if own else self._shipped["seconds_a_step"][kind])

    def episodes_per_second(self) -> float:
        """Of one process."""
        own = [row["episodes_a_second"] for row in self.rows if "episodes_a_second" in row]
        return statistics.median(own) if own else float(self._shipped["episodes_a_second"])

    @property
    def source(self) -> str:
        """Where the numbers come from."""
        return f"measured in this round, {machine()}" if self.rows else f"measured on {self._shipped['hardware']}"

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
