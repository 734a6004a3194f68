"""Writes the tables of README.md from results/*.json, so that no figure there is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lerobot_policy_dap.files import replacing_file

HERE = Path(__file__).parent
BEGIN = "<!-- tables -->"
ORDER = (
    "train_throughput",
    "evaluation",
    "latency",
    "latency_diffusion",
    "latency_h100",
    "flow_steps",
    "frame_store",
    "monitor",
    "realtime",
)


def main() -> None:
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").partition(BEGIN)[0]
    found = [json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER]
    with replacing_file(readme) as part:
        part.write_text(head + BEGIN + "\n\n" + "\n".join(map(section, found)), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    rows = result["rows"]
    table = "\n".join(markdown(list(rows[0]), ([_cell(v) for v in row.values()] for row in rows)))
    made = f"`{result['command']}`, {result['date']}, {result['hardware']}; {result['versions']}."
    return f"## {result['title']}\n\n{table}\n\n{made}\n"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
