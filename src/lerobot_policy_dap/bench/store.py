"""An evaluation on disk: the plan, one Parquet part a unit of episodes, and the actions of chosen episodes.

    FOLDER/plan.json                what was asked, of which checkpoints, with which software
    FOLDER/rows/UNIT.parquet        the episodes of one unit, written beside and renamed when the unit is finished
    FOLDER/films/UNIT.safetensors   actions `[T, 4]` by seed, written before the rows

`pandas.read_parquet("FOLDER/rows")` reads all rows as one table, and so does `open_results`, which knows the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import UserError
from ..files import read_json, replacing_file
from .episodes import Episode, read_episodes, write_episodes

PLAN_FILE = "plan.json"
_ROWS, _FILMS = "rows", "films"

Actions = NDArray[np.float32]


@dataclass(frozen=True)
class Film:
    """The actions of one episode, from which it can be seen again."""

    policy: str
    training_seed: int
    task: str
    shift: str
    severity: int
    seed: int
    success: bool
    actions: Actions
    """`[T, 4]`"""


@dataclass(frozen=True)
class Results:
    """What is finished of an evaluation.

    Attributes:
        plan: the content of plan.json, see `plan.Plan.to_dict`.
        episodes: in the order of the plan.
        films: in the order of the plan.
        missing: units of the plan that are not evaluated yet, in words.
    """

    plan: dict[str, Any]
    episodes: list[Episode]
    films: list[Film]
    missing: list[str]


@dataclass(frozen=True)
class UnitKey:
    """Names the episodes of one unit: `count` seeds of one cell, from `first_seed` on."""

    policy: str
    training_seed: int
    task: str
    shift: str
    severity: int
    first_seed: int
    count: int

    CELL: ClassVar = ("policy", "training_seed", "task", "shift", "severity")

    @property
    def cell(self) -> tuple[str, int, str, str, int]:
        """The fields that name its cell."""
        return self.policy, self.training_seed, self.task, self.shift, self.severity

    @property
    def seeds(self) -> range:
        """The seeds of its episodes."""
        return range(self.first_seed, self.first_seed + self.count)

    @property
    def file(self) -> str:
        """The name of its files, without suffix; `@` occurs in no name, so that no two units share a file."""
        cell = f"{self.policy}@{self.training_seed}-{self.task}-{self.shift}-{self.severity}"
        return f"{cell}-{self.first_seed}-{self.count}"

    def words(self) -> str:
        """For messages."""
        return (
            f"policy {self.policy} (training seed {self.training_seed}), task {self.task}, factor {self.shift}, "
            f"severity {self.severity}, seeds {self.seeds[0]} to {self.seeds[-1]}"
        )


def plan_units(plan: Mapping[str, Any]) -> Iterator[UnitKey]:
    """The units of a plan as it stands in plan.json: every cell cut into runs of `batch` seeds.

    The cut is a function of the plan alone, because episodes of one unit share policy calls and their noise.
    """
    first, batch = plan["settings"]["first_seed"], plan["settings"]["batch"]
    for cell in plan["cells"]:
        for start in range(0, cell["episodes"], batch):
            yield UnitKey(
                cell["policy"],
                cell["training_seed"],
                cell["task"],
                cell["shift"],
                cell["severity"],
                first + start,
                min(batch, cell["episodes"] - start),
            )


def read_plan(folder: Path) -> dict[str, Any]:
    """The content of plan.json.

    Raises:
        UserError: it is missing, or not such a plan.
    """
    if not (folder / PLAN_FILE).exists():
        raise UserError(f"{folder} holds no evaluation: {PLAN_FILE} is missing; make one with `dap bench run`")
    plan = read_json(folder / PLAN_FILE)
    if not isinstance(plan, dict) or not {"schema", "settings", "policies", "cells", "left_out"} <= plan.keys():
        raise UserError(f"{folder / PLAN_FILE} is not the plan of `dap bench run`")
    return plan


def open_results(folder: Path) -> Results:
    """What is finished in the folder of `dap bench run`.

    Raises:
        UserError: the folder holds no evaluation, or a part of it is truncated; the line names the file.
    """
    plan = read_plan(folder)
    episodes: list[Episode] = []
    films: list[Film] = []
    missing: list[str] = []
    for unit in plan_units(plan):
        rows = read_unit(folder, unit)
        if rows is None:
            missing.append(unit.words())
            continue
        episodes += rows
        films += _films(folder, unit, rows)
    return Results(plan, episodes, films, missing)


def read_unit(folder: Path, unit: UnitKey) -> list[Episode] | None:
    """The unit's episodes, or None where it is not finished.

    Raises:
        UserError: its file is truncated, or holds other episodes.
    """
    path = _rows_file(folder, unit)
    if not path.exists():
        return None
    try:
        rows = read_episodes(path)
    except UserError as error:
        raise UserError(f"{error} (`dap bench run` into {folder} evaluates this part alone again)") from error
    if [_key(row) for row in rows] != [(*unit.cell, seed) for seed in unit.seeds]:
        raise UserError(f"{path} holds other episodes than its name says; delete it and run the command again")
    return rows


def write_unit(folder: Path, unit: UnitKey, rows: Sequence[Episode], actions: Mapping[int, Actions]) -> None:
    """Keeps a finished unit; from the moment the rows have their name, it is never run again.

    Args:
        actions: by seed, of the episodes that may be seen again.
    """
    with replacing_file(folder / _FILMS / f"{unit.file}.safetensors") as part:
        save_file({str(seed): np.ascontiguousarray(steps) for seed, steps in actions.items()}, part)
    # Before the rows: a kill in between costs this unit, which is run again; after them, episodes would lie twice.
    discard_shorter(folder, unit)
    write_episodes(_rows_file(folder, unit), rows)


def discard_shorter(folder: Path, unit: UnitKey) -> None:
    """Forgets shorter units of the same start: ends of a cell that has become longer, which the plan has no more."""
    for count in range(1, unit.count):
        shorter = UnitKey(*unit.cell, unit.first_seed, count)
        _rows_file(folder, shorter).unlink(missing_ok=True)
        (folder / _FILMS / f"{shorter.file}.safetensors").unlink(missing_ok=True)


def discard_unit(folder: Path, unit: UnitKey) -> None:
    """Forgets a unit whose rows cannot be read."""
    _rows_file(folder, unit).unlink(missing_ok=True)


def _films(folder: Path, unit: UnitKey, rows: Sequence[Episode]) -> list[Film]:
    path = folder / _FILMS / f"{unit.file}.safetensors"
    try:
        kept = load_file(path) if path.exists() else {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not readable; delete it: its episodes cannot be seen, and count all the same"
        ) from error
    return [
        Film(*unit.cell, seed=row.seed, success=row.success, actions=kept[str(row.seed)])
        for row in rows
        if str(row.seed) in kept
    ]


def _key(row: Episode) -> tuple[str, int, str, str, int, int]:
    return row.policy, row.training_seed, row.task, row.shift, row.severity, row.seed


def _rows_file(folder: Path, unit: UnitKey) -> Path:
    return folder / _ROWS / f"{unit.file}.parquet"
