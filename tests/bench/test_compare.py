"""Two result sets: what counts as a regression, what is refused, and the command for people's CI."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bench import make_grid

from lerobot_policy_dap.bench.compare import ResultSet, compare
from lerobot_policy_dap.bench.episodes import CLEAN, Episode, write_episodes
from lerobot_policy_dap.bench.means import ALL
from lerobot_policy_dap.bench.reading import read_result_set
from lerobot_policy_dap.bench.store import UnitKey, write_unit
from lerobot_policy_dap.errors import UserError
from pages import listen

sys.path.insert(0, str(Path(__file__).parent.parent / "commands"))
from commands_support import dap

GRID: dict[str, Any] = {
    "policies": ("act",),
    "training_seeds": 1,
    "episodes": 40,
    "clean": 40,
    "severities": (1, 3),
}


def grid(**changes: Any) -> list[Episode]:
    return make_grid(**(GRID | changes))


def sets(a: list[Episode], b: list[Episode]) -> tuple[ResultSet, ResultSet]:
    return ResultSet("old", a), ResultSet("new", b)


@pytest.fixture(scope="module")
def before() -> list[Episode]:
    return grid()


def test_equal_sets_show_nothing(before: list[Episode]) -> None:
    found = compare(*sets(before, before), margin=0)
    assert not found["regressed"]
    assert all(row["difference"] == 0 and row["p"] == 1 for row in found["rows"])
    assert [row["shift"] for row in found["rows"]][:2] == [ALL, CLEAN]


def test_a_factor_that_has_become_worse_is_found_and_named(before: list[Episode]) -> None:
    found = compare(*sets(before, grid(worse={"camera_pose": 2.5})))
    regressed = [row for row in found["rows"] if row["regressed"]]
    assert [row["shift"] for row in regressed] == ["camera_pose"]
    [row] = regressed
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["sure_low"] <= row["low"]
    assert row["high"] <= row["sure_high"] < -found["margin"], (
        "the interval that decides is Holm's, and beyond the margin"
    )
    assert "camera pose" in found["summary"][0]


def test_a_gain_is_no_regression_and_the_other_way_round_it_is(before: list[Episode]) -> None:
    worse = grid(worse={CLEAN: 2.5})
    assert not compare(*sets(worse, before))["regressed"]
    assert [row["shift"] for row in compare(*sets(before, worse))["rows"] if row["regressed"]] == [CLEAN]


def test_the_margin_forgives(before: list[Episode]) -> None:
    worse = grid(worse={"camera_pose": 2.5})
    assert compare(*sets(before, worse), margin=0)["regressed"]
    assert not compare(*sets(before, worse), margin=0.5)["regressed"]
    with pytest.raises(UserError, match=r"--margin is 1\.5"):
        compare(*sets(before, worse), margin=1.5)


def test_false_alarms_are_rare(before: list[Episode]) -> None:
    """Other luck alone, no margin: 2.5% of policies are meant to raise an alarm."""
    small = {"tasks": ("drawer-open-v3",), "severities": (2,), "episodes": 30, "clean": 30}
    first = grid(**small)
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(24):
        pairs = [(replace(e, success=bool(x)), replace(e, success=bool(y))) for e, (x, y) in zip(first, rng.random((len(first), 2)) < 0.6, strict=True)]  # fmt: skip
        alarms += compare(*sets([a for a, _ in pairs], [b for _, b in pairs]), margin=0)["regressed"]
    assert alarms <= 3


def test_only_common_cells_count(before: list[Episode]) -> None:
    """A factor that only B has is no row, and its seeds beyond those of A do not matter."""
    shorter = [e for e in before if e.shift != "distractors" and e.seed < 10_020]
    found = compare(*sets(shorter, before))
    assert "distractors" not in {row["shift"] for row in found["rows"]}
    assert {row["n"] for row in found["rows"]} == {3 * 20}


def test_single_policies_of_other_names_stand_beside_each_other(before: list[Episode]) -> None:
    renamed = [replace(e, policy="act_v2") for e in before]
    assert {row["policy"] for row in compare(*sets(before, renamed))["rows"]} == {"act → act_v2"}


def changed(episodes: list[Episode], **what: Any) -> list[Episode]:
    return [replace(e, **what) for e in episodes]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda e: changed(e, versions="lerobot 0.6.1, metaworld 3.0.0, mujoco 3.4.0"), r"mujoco 3.8.1 and new with 3.4.0"),
        (lambda e: changed(e, versions="lerobot 0.6.1, metaworld 2.0.0, mujoco 3.8.1"), r"metaworld 3.0.0 and new with 2.0.0"),
        (lambda e: [replace(x, seed=x.seed + 1000) for x in e], "seeds 10000 to 10039.*seeds 11000 to 11039.*--first-seed"),
        (lambda e: changed(e, task="reach-v3")[:40], "no task in common"),
        (lambda e: [x for x in changed(e, shift="fog", severity=1) if x.seed >= 0][:0] or [replace(x, shift="fog", severity=1, seed=i) for i, x in enumerate(e)], "no factor and severity in common"),
        (lambda e: changed(e, policy="x") + changed(e, policy="y"), "no policy of one name"),
        (lambda e: changed(e, policy="expert"), "no policy of one name"),
        (lambda e: [], "no episodes"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(before: list[Episode], other: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compare(*sets(before, other(before)))
    assert "\n" not in str(caught.value)


def test_other_software_is_said_but_not_refused(before: list[Episode]) -> None:
    found = compare(*sets(before, changed(before, versions="lerobot 0.7.0, metaworld 3.0.0, mujoco 3.8.1")))
    assert "The software differs" in found["summary"][-1]


def test_other_image_sizes_of_a_policy_are_refused(before: list[Episode]) -> None:
    name = before[0].policy
    a, b = (ResultSet(who, before, {name: size, who: "7"}) for who, size in (("old", "84"), ("new", "96")))
    with pytest.raises(UserError, match="images of 84 px in old and of 96 px in new"):
        compare(a, b)
    compare(a, replace(b, image_sizes={name: "84", "new": "7"}))  # of another policy's nothing is compared


def test_what_the_later_results_lack_is_said(before: list[Episode]) -> None:
    lost = before[-1].shift
    after = [e for e in before if e.shift != lost]
    more = [replace(e, policy="other", checkpoint="o") for e in before]
    a, b = ResultSet("old", [*before, *more]), ResultSet("new", after, unfinished=2)
    said = " ".join(compare(a, b)["summary"])
    assert "new is not finished: of its plan, 2 parts to go." in said
    assert "new lacks policies that old has: other." in said
    assert f"new lacks conditions of {before[0].policy} that old has: " in said
    assert lost.replace("_", " ") in said
    assert "lacks" not in " ".join(compare(b, a)["summary"])  # that there is more now is no loss


def test_fewer_training_seeds_of_the_later_results_are_said() -> None:
    found = compare(*sets(grid(training_seeds=3), grid(training_seeds=2)))
    assert "new has 2 training seeds of act, where old has 3 training seeds." in found["summary"]


def test_there_is_no_mean_of_all_conditions_where_the_clean_one_alone_is_shared(before: list[Episode]) -> None:
    clean = [e for e in before if e.shift == CLEAN]
    for a, b in ((clean, before), (before, clean)):
        assert [row["shift"] for row in compare(*sets(a, b))["rows"]] == [CLEAN]


def test_a_physical_factor_is_in_no_mean(tmp_path: Path, before: list[Episode]) -> None:
    """Whatever the results were read from: a table does not say which factors are physical."""
    write_episodes(tmp_path / "a.parquet", before)
    write_episodes(tmp_path / "b.parquet", changed(before, success=True))
    found = compare(*(read_result_set(tmp_path / name) for name in ("a.parquet", "b.parquet")))
    cells = {row["shift"]: row["cells"] for row in found["rows"]}
    assert cells["object_size"] == 3 * 2
    assert cells[ALL] == sum(cells.values()) - cells[ALL] - cells["object_size"]
    worse = [replace(e, success=False) if e.shift == "object_size" else e for e in before]
    regressed = [row["shift"] for row in compare(*sets(before, worse))["rows"] if row["difference"] != 0]
    assert regressed == ["object_size"]


def evaluated(
    folder: Path, clean: list[Episode], planned: Sequence[tuple[str, int]] = ((CLEAN, 0),), max_steps: int = 300
) -> None:
    """A folder of `dap bench run` in which, of the cells that are planned, the clean one is finished."""
    unit = UnitKey("act", 0, "drawer-open-v3", CLEAN, 0, 10_000, len(clean))
    write_unit(folder, unit, clean, {})
    cells = [(*unit.cell[:-2], *condition) for condition in planned]
    plan = {
        "schema": 1,
        "settings": {"max_steps": max_steps, "batch": 50, "first_seed": 10_000},
        "policies": [],
        "cells": [dict(zip(UnitKey.CELL, cell, strict=True)) | {"episodes": len(clean)} for cell in cells],
        "left_out": [],
    }
    (folder / "plan.json").write_text(json.dumps(plan))


def test_other_step_limits_are_refused(tmp_path: Path, before: list[Episode]) -> None:
    """Of two folders of `dap bench run`, and of tables with what `dap eval` writes beside them; where both say it."""
    some = [e for e in before if e.task == "drawer-open-v3" and e.shift == CLEAN]
    of = {}
    for steps in (150, 300):
        of[steps] = tmp_path / f"run{steps}"
        evaluated(of[steps], some, max_steps=steps)
    write_episodes(tmp_path / "table" / "episodes.parquet", some)
    compare(read_result_set(of[150]), read_result_set(tmp_path / "table"))
    (tmp_path / "table" / "results.json").write_text(json.dumps({"meta": {"max_steps": 300}}))
    for other in (of[300], tmp_path / "table"):
        with pytest.raises(UserError, match=r"run150 .* at most 150 steps an episode and .* with 300;") as caught:
            compare(read_result_set(of[150]), read_result_set(other))
        assert "\n" not in str(caught.value)
    compare(read_result_set(of[300]), read_result_set(tmp_path / "table"))


def tables(tmp_path: Path, before: list[Episode], **worse: float) -> tuple[Path, Path]:
    a, b = tmp_path / "a.parquet", tmp_path / "b" / "episodes.parquet"
    b.parent.mkdir()
    write_episodes(a, before)
    write_episodes(b, grid(worse=worse))
    return a, b.parent


def test_the_command_fails_a_build_only_when_asked_and_only_on_a_regression(
    tmp_path: Path, before: list[Episode]
) -> None:
    a, worse = tables(tmp_path, before, camera_pose=2.5)
    said = dap("bench", "compare", a, worse, "--out", tmp_path / "out")
    assert "regression" in said.stdout
    assert dap("bench", "compare", a, worse, "--fail-on-regression", check=False).returncode == 1
    assert dap("bench", "compare", a, a, "--fail-on-regression", "--margin", "0", check=False).returncode == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["regressed"] is True
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "dap bench compare" in page
    assert "http" not in re.sub("http-equiv", "", page)


@pytest.mark.parametrize("which", ["earlier", "later"])
def test_a_build_does_not_pass_on_results_that_are_not_finished(
    tmp_path: Path, before: list[Episode], which: str
) -> None:
    some = [e for e in before if e.task == "drawer-open-v3" and e.shift == CLEAN]
    evaluated(tmp_path / "half", some, planned=((CLEAN, 0), ("distractors", 3)))
    write_episodes(tmp_path / "whole.parquet", before)
    pair = [tmp_path / "half", tmp_path / "whole.parquet"][:: 1 if which == "earlier" else -1]
    assert dap("bench", "compare", *pair).returncode == 0
    done = dap("bench", "compare", *pair, "--fail-on-regression", check=False)
    assert done.returncode == 2
    assert "half is not finished" in done.stderr


def test_bad_input_is_one_line_and_status_2(tmp_path: Path, before: list[Episode]) -> None:
    a, folder = tables(tmp_path, before)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(a.read_bytes()[:2000])
    (tmp_path / "empty").mkdir()
    sizes = {"meta": {"policies": [{"name": "act", "image_size": 96}]}}
    (folder / "results.json").write_text(json.dumps(sizes))
    (tmp_path / "results.json").write_text(json.dumps({"meta": {"policies": [{"name": "act", "image_size": 84}]}}))
    for wrong, message in (
        (cut, "cut.parquet is not a readable Parquet file"),
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "holds no results"),
        (folder, "images of 84 px"),
    ):
        done = dap("bench", "compare", a, wrong, "--fail-on-regression", check=False)
        assert done.returncode == 2, wrong
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_page_opens_and_sorts(chromium: Any, tmp_path: Path, before: list[Episode]) -> None:
    a, b = tables(tmp_path, before, camera_pose=2.5)
    dap("bench", "compare", a, b, "--out", tmp_path)
    page = chromium.new_page(viewport={"width": 360, "height": 740})
    _, complaints = listen(page)
    page.goto((tmp_path / "compare.html").as_uri())
    page.get_by_role("button", name="Difference").click()
    values = page.eval_on_selector_all("tbody tr", "rows => rows.map(r => Number(r.cells[4].dataset.value))")
    assert values == sorted(values)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert complaints == []
    page.close()
