"""Running a plan: the same episodes however it is run, nothing lost, nothing run twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints_support import SIZE, make_checkpoint, outcomes, small_plan

from lerobot_policy_dap.bench import run as running
from lerobot_policy_dap.bench.plan import Plan, Policy
from lerobot_policy_dap.bench.policies import Planner, environment_for
from lerobot_policy_dap.bench.request import describe_request
from lerobot_policy_dap.bench.rollout import roll_out
from lerobot_policy_dap.bench.run import Unit, evaluate, give_up, run
from lerobot_policy_dap.bench.store import Film, Results, open_results
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.processes import Died, each, surviving
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.world import World

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bench")]


def finish(plan: Plan, out: Path, workers: int = 1, **options: Any) -> Results:
    give_up(run(plan, out, workers, lambda done, total: None, **options))
    return open_results(out)


def stamps(out: Path) -> dict[str, int]:
    """The finished parts and when each was written; a part being written has a hidden name until it is whole."""
    parts = (out / "rows").glob("[!.]*.parquet")
    return {path.name: path.stat().st_mtime_ns for path in parts}


# The table


def test_every_cell_is_there_once_and_films_repeat_their_episodes(reference: Results) -> None:
    cells = [(e.shift, e.severity, e.seed) for e in reference.episodes]
    assert cells == [
        *(("none", 0, 10_000 + i) for i in range(5)),
        *(("blind", 0, 10_000 + i) for i in range(3)),
        *(("distractors", 2, 10_000 + i) for i in range(3)),
    ]
    assert not reference.missing
    assert {e.training_seed for e in reference.episodes} == {0}
    assert reference.episodes[0].checkpoint == reference.plan["policies"][0]["checkpoint"]
    by_key = {(e.shift, e.seed): e for e in reference.episodes}
    filmed = {(f.shift, f.seed) for f in reference.films}
    assert filmed >= {("none", 10_000), ("blind", 10_000), ("distractors", 10_000)}  # chosen
    assert ("none", 10_002) in filmed  # the first failure of the second unit
    film = next(f for f in reference.films if f.shift == "none")
    assert repeated_return(film) == by_key["none", film.seed].episode_return


def test_the_blind_episodes_are_of_a_policy_that_was_shown_no_image(checkpoint: Path, reference: Results) -> None:
    film = next(f for f in reference.films if (f.shift, f.seed) == ("blind", 10_000))
    acted = {}
    for blind in (False, True):
        planner = Planner(checkpoint, environment_for(checkpoint, "drawer-open", 12))
        worlds = [
            World("drawer-open", settings=RenderSettings(SIZE, SIZE)) for _ in range(2)
        ]  # a unit of the plan
        [outcome, _], _ = roll_out(planner, worlds, [10_000, 10_001], 12, blind)
        acted[blind] = np.stack(outcome.actions)
    np.testing.assert_allclose(film.actions, acted[True], atol=1e-5)
    assert np.abs(film.actions - acted[False]).max() > 1e-2


def repeated_return(film: Film) -> float:
    world = World(film.task)
    world.set_shift(film.shift, film.severity)
    world.reset(film.seed)
    total = 0.0
    for action in film.actions:  # one after the other, as a roll-out adds them: sum() rounds less
        total += world.step(action).reward
    return total


def test_the_rows_are_one_parquet_table_for_everybody(reference_folder: Path, reference: Results) -> None:
    table = pq.read_table(reference_folder / "rows")
    assert table.num_rows == len(reference.episodes)
    assert {f.name: str(f.type) for f in table.schema} == {
        "policy": "string", "task": "string", "shift": "string", "severity": "int64", "seed": "int64",
        "success": "bool", "steps": "int64", "episode_return": "double", "plan_ms": "double", "checkpoint": "string",
        "versions": "string", "training_seed": "int64",
        "p_value": "double", "alarm_step": "int64",
    }  # fmt: skip
    assert len(list((reference_folder / "rows").iterdir())) == 3 + 2 + 2  # a part a unit


def test_the_number_of_workers_changes_nothing(checkpoint: Path, reference: Results, tmp_path: Path) -> None:
    again = finish(small_plan(Policy("p", checkpoint)), tmp_path / "two", workers=2)
    assert outcomes(again.episodes) == outcomes(reference.episodes)
    for ours, theirs in zip(again.films, reference.films, strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)


# Interruptions


def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(
    checkpoint: Path, reference: Results, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    options = ("--policy", f"p={checkpoint}", "--task", "drawer-open", "--factor", "distractors", "--severity", "2",
               "--episodes", "3", "--clean-episodes", "5", "--batch", "2", "--max-steps", "12", "--workers", "2")  # fmt: skip
    process = subprocess.Popen(
        [Path(sys.executable).parent / "dap", "bench", "run", "--out", out, *options, "--device", "cpu"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not any(out.glob("rows/[!.]*.parquet")) and process.poll() is None:
        assert time.monotonic() < deadline, "no unit was ever finished"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # its processes notice within half a second
    before = stamps(out)
    assert 1 <= len(before) < 7
    assert len(open_results(out).missing) == 7 - len(before)
    resumed = finish(small_plan(Policy("p", checkpoint)), out)
    assert outcomes(resumed.episodes) == outcomes(reference.episodes)
    assert before.items() <= stamps(out).items()  # nothing finished was run again


class DiesOnce:
    """`evaluate`, but it dies on the first try of one unit."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __call__(self, unit: Unit) -> Any:
        if unit.key.shift == "distractors" and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(unit)


def always_dies(unit: Unit) -> Any:
    if unit.key.shift == "distractors" and unit.key.first_seed == 10_002:
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(unit)


def test_a_worker_that_dies_is_replaced(
    checkpoint: Path, reference: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "died"
    monkeypatch.setattr(running, "evaluate", DiesOnce(flag))
    finished = finish(small_plan(Policy("p", checkpoint)), tmp_path / "out", workers=2)
    assert flag.exists()
    assert outcomes(finished.episodes) == outcomes(reference.episodes)


def test_a_unit_that_always_kills_its_worker_is_named_and_the_rest_is_finished(
    checkpoint: Path, reference: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    plan = small_plan(Policy("p", checkpoint))
    with monkeypatch.context() as patched:
        patched.setattr(running, "evaluate", always_dies)
        lost = run(plan, out, 2, lambda done, total: None)
        with pytest.raises(UserError) as caught:
            give_up(lost)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("policy p ", "drawer-open-v3", "factor distractors", "severity 2", "seeds 10002 to 10002"):
        assert part in line
    kept = open_results(out)
    assert len(kept.missing) == 1
    assert outcomes(kept.episodes) == [
        o for o in outcomes(reference.episodes) if o[3:6] != ("distractors", 2, 10_002)
    ]
    assert outcomes(finish(plan, out).episodes) == outcomes(reference.episodes)


def double_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_only_the_item_that_kills_is_given_up() -> None:
    results = dict(surviving(double_or_die, range(1, 7), workers=2))
    assert results == {1: 2, 2: 4, 3: Died(3), 4: 8, 5: 10, 6: 12}
    with pytest.raises(UserError, match="a worker process died"):
        list(each(double_or_die, [3], workers=1))


def test_a_truncated_part_is_named_and_run_again(
    reference_folder: Path, checkpoint: Path, reference: Results, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference_folder, out)
    part = out / "rows" / "p@0-drawer-open-v3-none-0-10002-2.parquet"
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"none-0-10002-2\.parquet is not a readable Parquet file"):
        open_results(out)
    said: list[str] = []
    before = stamps(out)
    resumed = finish(small_plan(Policy("p", checkpoint)), out, say=said.append)
    assert len(said) == 2  # the other is of how the training frames were rendered, which is not known
    assert len([line for line in said if part.name in line]) == 1
    assert outcomes(resumed.episodes) == outcomes(reference.episodes)
    assert {name for name, stamp in stamps(out).items() if before.get(name) != stamp} == {part.name}


# Extension


def test_a_plan_grows_by_what_is_new(
    reference_folder: Path, checkpoint: Path, reference: Results, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference_folder, out)
    before = stamps(out)
    more = finish(
        small_plan(Policy("p", checkpoint), clean_episodes=6, episodes=4, severities=[2, 4]), out, workers=2
    )
    whole = {o[3:6]: o for o in outcomes(more.episodes)}
    assert len(whole) == len(more.episodes) == 6 + 4 + 2 * 4
    # What was there has not changed, though the units that were cut short have been run as whole ones.
    same = [o for o in outcomes(reference.episodes) if o[5] not in (10_002, 10_004)]
    assert [whole[o[3:6]] for o in same] == same
    after = stamps(out)
    assert {n for n in before if n in after} == {n for n in before if n.endswith("-2.parquet")}
    assert all(after[n] == before[n] for n in before if n in after)
    straight = finish(
        small_plan(Policy("p", checkpoint), clean_episodes=6, episodes=4, severities=[2, 4]), tmp_path / "straight"
    )
    assert sorted(outcomes(straight.episodes)) == sorted(outcomes(more.episodes))
    # Asked for less, nothing is forgotten.
    assert len(finish(small_plan(Policy("p", checkpoint)), out).episodes) == len(more.episodes)


@pytest.mark.parametrize("other", [{"max_steps": 13}, {"batch": 3}, {"first_seed": 7}])
def test_settings_that_change_results_must_agree(
    reference_folder: Path, checkpoint: Path, tmp_path: Path, other: dict[str, int]
) -> None:
    [name] = other
    with pytest.raises(UserError, match=f"{name}="):
        finish(small_plan(Policy("p", checkpoint), **other), reference_folder)


def test_another_checkpoint_or_processor_under_the_same_name_is_refused(
    reference_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="holds p@0 of another checkpoint"):
        finish(small_plan(Policy("p", other)), reference_folder)
    faster = tmp_path / "faster"
    shutil.copytree(checkpoint, faster)
    config = json.loads((faster / "config.json").read_text())
    (faster / "config.json").write_text(json.dumps({**config, "n_action_steps": 2}))
    with pytest.raises(UserError, match="acting"):
        finish(small_plan(Policy("p", faster)), reference_folder)
    with pytest.raises(UserError, match="p@0 and p@1 are one checkpoint"):
        finish(small_plan(Policy("p", checkpoint, 1)), reference_folder)


def test_a_monitor_that_is_replaced_during_the_run_is_refused(checkpoint: Path) -> None:
    plan = small_plan(Policy("p", checkpoint))
    asked = describe_request(plan, running.versions())
    unit = next(running._units(plan, asked, asked))
    assert len(evaluate(unit)[0]) == 2
    with pytest.raises(UserError, match=f"the monitor of {checkpoint} was replaced during the run"):
        evaluate(replace(unit, monitor="of the beginning"))


def test_a_folder_that_holds_something_else_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds something else \(thesis\.tex\)"):
        finish(small_plan(Policy("p", checkpoint)), tmp_path)
    with pytest.raises(UserError, match=r"plan\.json is missing"):
        open_results(tmp_path)
