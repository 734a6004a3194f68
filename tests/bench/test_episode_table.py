"""The episode table: what is written is read, and nothing else is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.bench.episodes import Episode, read_episodes, write_episodes
from lerobot_policy_dap.errors import UserError

whole = st.integers(0, 2**62)
number = st.floats(allow_nan=False)
condition = st.one_of(
    st.tuples(st.sampled_from(["none", "blind"]), st.just(0)),
    st.tuples(st.text().filter(lambda name: name not in ("none", "blind")), st.integers(1, 9)),
)
episode = st.builds(
    lambda condition, **fields: Episode(shift=condition[0], severity=condition[1], **fields),
    condition=condition,
    policy=st.text(),
    task=st.text(),
    seed=st.integers(-(2**62), 2**62),
    success=st.booleans(),
    steps=whole,
    episode_return=number,
    plan_ms=number,
    checkpoint=st.text("0123456789abcdef", min_size=64, max_size=64),
    versions=st.text(),
    training_seed=st.integers(0, 2**62),
    p_value=st.none() | st.floats(0, 1),
    alarm_step=st.none() | whole,
)


def one(**changes: object) -> Episode:
    fields: dict[str, object] = {
        "policy": "none", "task": "reach-v3", "shift": "none", "severity": 0, "seed": 1, "success": True, "steps": 9,
        "episode_return": 1.0, "plan_ms": 3.0, "checkpoint": "0" * 64, "versions": "mujoco 3.8.1",
    }  # fmt: skip
    return Episode(**(fields | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.lists(episode, max_size=20))
def test_round_trip(episodes: list[Episode]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episodes.parquet"
        write_episodes(path, episodes)
        assert read_episodes(path) == episodes
        assert [entry.name for entry in Path(folder).iterdir()] == ["episodes.parquet"]


@pytest.mark.parametrize(
    ("version", "unknown"), [(b"1", ["training_seed", "p_value", "alarm_step"]), (b"2", ["p_value", "alarm_step"])]
)
def test_a_table_from_before_training_seeds_or_monitors_is_read(
    tmp_path: Path, version: bytes, unknown: list[str]
) -> None:
    path = tmp_path / "episodes.parquet"
    write_episodes(path, [one(), one(seed=2)])
    table = pq.read_table(path).drop_columns(unknown)
    pq.write_table(table.replace_schema_metadata({b"lerobot_policy_dap.episodes": version}), path)
    assert read_episodes(path) == [one(training_seed=0), one(seed=2)]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        read_episodes(tmp_path / "none.parquet")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = tmp_path / "episodes.parquet"
    write_episodes(path, [one(seed=i) for i in range(100)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match="not a readable Parquet file") as caught:
        read_episodes(path)
    assert "\n" not in str(caught.value)


def test_damaged_inside(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    write_episodes(path, [one(seed=i) for i in range(1000)])
    content = bytearray(path.read_bytes())
    content[60:400] = bytes(340)
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_episodes(path)
    assert "\n" not in str(caught.value)


def test_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a readable"):
        read_episodes(tmp_path)


def test_foreign_parquet(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"policy": ["a"]}), path)
    with pytest.raises(UserError, match="not an episode table"):
        read_episodes(path)


def test_other_schema_version_and_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    table = pa.table({"policy": ["a"]})
    for version, message in ((b"4", "schema 4"), (b"3", "lacks columns"), (b"1", "lacks columns")):
        pq.write_table(table.replace_schema_metadata({b"lerobot_policy_dap.episodes": version}), path)
        with pytest.raises(UserError, match=message):
            read_episodes(path)


@pytest.mark.parametrize(
    "wrong", [{"severity": 2}, {"shift": "distractors"}, {"shift": "blind", "severity": 1}, {"steps": -1}]
)
def test_impossible_episodes_cannot_be_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="severity"):
        one(**wrong)
