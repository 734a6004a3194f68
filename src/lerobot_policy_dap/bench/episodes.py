"""The record of one evaluated episode, and its table on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..files import replacing_file
from ..worlds.shifts import CLEAN as CLEAN

BLIND = "blind"
"""The same policy with its images zeroed: the floor."""
EXPERT = "expert"
"""The name of the scripted expert among the policies."""

SCHEMA_VERSION = 3
_SCHEMA_KEY = b"lerobot_policy_dap.episodes"


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode of one policy.

    Attributes:
        policy: the name that the user gave to the checkpoint.
        task: name of the task.
        shift: `CLEAN` ("none"), `BLIND` (the same policy with its images zeroed), or the name of a factor.
        severity: 0 for clean and blind, 1 or more for a factor.
        seed: fixes the initial state; episodes of equal task and seed pair across policies and shifts.
        success: whether the task was solved within the step limit.
        steps: environment steps taken; the step limit when the episode failed by time.
        episode_return: sum of the rewards.
        plan_ms: median milliseconds for one planned chunk, per episode of the batch; NaN when not measured.
        checkpoint: SHA-256 of `model.safetensors`, hexadecimal; "expert" for the scripted expert.
        versions: one string that names the software which decides the outcome, such as
            "lerobot 0.6.1, mujoco 3.8.1". Dynamics differ between versions, so results may not mix them.
        training_seed: tells apart checkpoints of one policy that were trained alike from different seeds.
        p_value: the least that the checkpoint's monitor gave in the episode; None where it has no monitor.
        alarm_step: steps before its first alarm; None without one.

    Raises:
        ValueError: severity and shift contradict each other, or a count is negative.
    """

    policy: str
    task: str
    shift: str
    severity: int
    seed: int
    success: bool
    steps: int
    episode_return: float
    plan_ms: float
    checkpoint: str
    versions: str
    training_seed: int = 0
    p_value: float | None = None
    alarm_step: int | None = None

    def __post_init__(self) -> None:
        if (self.severity == 0) != (self.shift in (CLEAN, BLIND)):
            raise ValueError(f"shift {self.shift!r} cannot have severity {self.severity}")
        if self.severity < 0 or self.steps < 0:
            raise ValueError("severity and steps are counts and cannot be negative")


_SCHEMA = pa.schema(
    [
        pa.field("policy", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("shift", pa.string(), nullable=False),
        pa.field("severity", pa.int64(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("episode_return", pa.float64(), nullable=False),
        pa.field("plan_ms", pa.float64(), nullable=False),
        pa.field("checkpoint", pa.string(), nullable=False),
        pa.field("versions", pa.string(), nullable=False),
        pa.field("training_seed", pa.int64(), nullable=False),
        pa.field("p_value", pa.float64()),
        pa.field("alarm_step", pa.int64()),
    ],
    metadata={_SCHEMA_KEY: str(SCHEMA_VERSION).encode()},
)
_SCHEMAS = {
    b"1": pa.schema(list(_SCHEMA)[:-3]),
    b"2": pa.schema(list(_SCHEMA)[:-2]),
    str(SCHEMA_VERSION).encode(): _SCHEMA,
}
"""By version: tables of the first know one checkpoint a policy, those of the second no monitor."""
# One order for the dataclass and the table: rows are built and read by position.
assert [field.name for field in fields(Episode)] == _SCHEMA.names


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Writes the episodes as Parquet, in their order, whole or not at all; none make a valid empty table."""
    rows = [astuple(episode) for episode in episodes]
    columns = [pa.array([row[i] for row in rows], type=field.type) for i, field in enumerate(_SCHEMA)]
    with replacing_file(path) as part:
        pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), part)


def read_episodes(path: Path) -> list[Episode]:
    """The episodes of a table written by `write_episodes`, in their order.

    Raises:
        UserError: the file is missing, truncated, of another program, or of another schema version.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file; evaluate again to make a new one") from error
    version = (table.schema.metadata or {}).get(_SCHEMA_KEY)
    if version is None:
        raise UserError(f"{path} is Parquet, but not an episode table of this program")
    schema = _SCHEMAS.get(version)
    if schema is None:
        raise UserError(
            f"{path} has episode schema {version.decode(errors='replace')}, and this version reads "
            f"1 to {SCHEMA_VERSION}; evaluate again to make a new one"
        )
    if not table.schema.equals(schema, check_metadata=False):
        raise UserError(f"{path} lacks columns of an episode table; evaluate again to make a new one")
    try:
        return [Episode(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    except ValueError as error:
        raise UserError(f"{path} holds an impossible episode ({error}); evaluate again") from error
