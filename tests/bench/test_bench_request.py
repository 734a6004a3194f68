"""What is asked of a folder: refused before anything runs, extended only by what can lie in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from lerobot_policy_dap.bench import store
from lerobot_policy_dap.bench.episodes import CLEAN, Episode
from lerobot_policy_dap.bench.plan import Plan, Policy, make_plan
from lerobot_policy_dap.bench.request import claim, describe_request, guesses, only
from lerobot_policy_dap.bench.run import _is_finished, check_plan
from lerobot_policy_dap.bench.store import UnitKey, open_results, plan_units, write_unit
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import write_json
from lerobot_policy_dap.processes import check_device

TASK = "drawer-open-v3"


def plan(policy: Policy, episodes: int = 3, **options: Any) -> Plan:
    return Plan((policy,), (TASK,), (), episodes, episodes, 12, batch=2, **options)


def rows(unit: UnitKey, p_value: float | None = None) -> list[Episode]:
    key = {"policy": unit.policy, "task": unit.task, "shift": unit.shift, "severity": unit.severity}
    return [
        Episode(**key, seed=seed, success=True, steps=5, episode_return=1.0, plan_ms=1.0, checkpoint="c",
                versions="v", p_value=p_value)
        for seed in unit.seeds
    ]  # fmt: skip


def seeds(folder: Path) -> list[int]:
    """Of the clean cell, as everybody reads the rows."""
    table = pq.read_table(folder / "rows", filters=[("shift", "=", CLEAN)])
    return sorted(table["seed"].to_pylist())


# The monitor


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"type": "dap"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return Policy("p", folder)


def calibrate(policy: Policy, threshold: float | None) -> None:
    """Puts a monitor beside the checkpoint, or takes it away."""
    assert policy.path is not None
    for name in ("monitor.json", "monitor.safetensors"):
        (policy.path / name).unlink(missing_ok=True)
        if threshold is not None:
            (policy.path / name).write_text(f"{threshold} in {name}")


def ask(policy: Policy, out: Path, episodes: int = 3, said: list[str] | None = None) -> dict[str, Any]:
    say = [] if said is None else said
    return claim(out, describe_request(plan(policy, episodes), "v"), say.append)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (None, 1.0, "holds p@0 without a monitor, and .* has one now"),
        (1.0, None, "holds p@0 watched by a monitor, and .* has none now"),
        (1.0, 2.0, "holds p@0 watched by another monitor than .* has now"),
    ],
)
def test_a_table_has_the_alarms_of_one_monitor(
    policy: Policy, tmp_path: Path, before: float | None, after: float | None, message: str
) -> None:
    calibrate(policy, before)
    ask(policy, tmp_path / "out")
    assert ask(policy, tmp_path / "out", 5)["cells"][0]["episodes"] == 5, "nothing changed, and it grows"
    calibrate(policy, after)
    with pytest.raises(UserError, match=f"{message}.*choose another --out") as caught:
        ask(policy, tmp_path / "out", 7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("watched", "calibrated", "accepted"),
    [(False, False, True), (True, True, True), (False, True, False), (True, False, False), (None, True, True)],
)
def test_a_plan_from_before_monitors_were_recorded_is_judged_by_its_rows(
    policy: Policy, tmp_path: Path, watched: bool | None, calibrated: bool, accepted: bool
) -> None:
    """`watched` is None where nothing was finished."""
    out, said = tmp_path / "out", []  # type: tuple[Path, list[str]]
    whole = ask(policy, out)
    for known in whole["policies"]:
        del known["monitor"]
    (out / "plan.json").write_text(json.dumps(whole))
    first, second, *_ = plan_units(whole)
    if watched is not None:
        write_unit(out, first, rows(first, 0.5 if watched else None), {})
    (out / "rows").mkdir(exist_ok=True)
    (out / "rows" / f"{second.file}.parquet").write_bytes(b"truncated")
    calibrate(policy, 1.0 if calibrated else None)
    if accepted:
        found = ask(policy, out, 5, said)
        assert (found["policies"][0]["monitor"] is not None) == calibrated
        assert len(said) == (watched is True), "which monitor it was is not known, and that is said"
        ask(policy, out, 5, said)
        assert len(said) == (watched is True), "once"
    else:
        with pytest.raises(UserError, match="choose another --out"):
            ask(policy, out, 5)


# A unit that has become longer


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, UnitKey, UnitKey]:
    """A folder whose plan has grown from 3 episodes to 4, with the old units in it, and its last unit then and now."""
    expert = Policy("expert", None)
    out = tmp_path / "out"
    units = list(plan_units(claim(out, describe_request(plan(expert), "v"))))
    for unit in units:
        write_unit(out, unit, rows(unit), {})
    longer = list(plan_units(claim(out, describe_request(plan(expert, 4), "v"))))
    assert (units[-1].count, longer[-1].count) == (1, 2)
    return out, units[-1], longer[-1]


@pytest.mark.parametrize("written", [True, False])
def test_a_kill_leaves_no_episode_twice(
    grown: tuple[Path, UnitKey, UnitKey], written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before or just after the rows of the longer unit have their name."""
    out, _, longer = grown
    write = store.write_episodes

    def killed(path: Path, episodes: list[Episode]) -> None:
        if written:
            write(path, episodes)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_episodes", killed)
    with pytest.raises(KeyboardInterrupt):
        write_unit(out, longer, rows(longer), {})
    assert seeds(out) == [10_000, 10_001, *([10_002, 10_003] if written else [])]
    assert bool(open_results(out).missing) is not written, "what is not there is run again"


def test_a_shorter_unit_that_an_older_version_left_is_cleared_away(grown: tuple[Path, UnitKey, UnitKey]) -> None:
    out, shorter, longer = grown
    write_unit(out, longer, rows(longer), {})
    write_unit(out, shorter, rows(shorter), {})
    assert seeds(out) == [10_000, 10_001, 10_002, 10_002, 10_003]
    assert _is_finished(out, longer, print)
    assert seeds(out) == [10_000, 10_001, 10_002, 10_003]
    assert not (out / "films" / f"{shorter.file}.safetensors").exists()


# Refused before anything runs


def test_more_steps_than_meta_world_has_are_refused() -> None:
    """The expert has no checkpoint whose environment would refuse them."""
    numbers = {"episodes": 1, "clean_episodes": 1}
    assert make_plan([Policy("expert", None)], ["drawer-open"], [], [], max_steps=500, **numbers).max_steps == 500
    with pytest.raises(UserError, match=r"--max-steps is 501; Meta-World ends every episode after 500"):
        make_plan([Policy("expert", None)], ["drawer-open"], [], [], max_steps=501, **numbers)


@pytest.mark.parametrize("name", ["foo", "", "meta", "cuda:x"])
def test_a_device_that_torch_does_not_know_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"--device is '{name}', which torch does not know") as caught:
        check_plan(plan(Policy("expert", None), device=name))
    assert "\n" not in str(caught.value)


def test_a_device_must_be_here_where_policies_compute_here(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device is cuda, and torch finds no such device"):
        check_device("cuda")
    check_device("cuda", here=False)  # on a cluster
    check_plan(plan(Policy("expert", None), device="cuda"))  # which computes nothing
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    with pytest.raises(UserError, match="--device is cuda:1"):
        check_device("cuda:1")


# One table


def test_another_plan_in_the_folder_of_an_evaluation_is_refused(policy: Policy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    only(plan(policy), out)
    ask(policy, out)
    only(plan(policy, 5), out)  # more of the same
    with pytest.raises(UserError, match=r"holds drawer-open-v3 clean of p, which is not asked for now"):
        only(Plan((policy,), ("hammer-v3",), (), 3, 3, 12), out)


def test_frames_that_were_rendered_otherwise_are_not_put_beside(policy: Policy, tmp_path: Path) -> None:
    """Of a checkpoint that is no DAP's its dataset alone says how, and not every folder finds that."""
    assert policy.path is not None
    out = tmp_path / "out"
    (policy.path / "train_config.json").write_text(json.dumps({"dataset": {"root": str(tmp_path / "data")}}))
    found = ask(policy, out)
    assert len(guesses(found)) == 1, "it is said that the defaults are a guess"
    world = {"settings": {"samples": 0, "shadows": False, "reflections": False}}
    write_json(tmp_path / "data" / "meta" / "recording.json", {"world": world})
    assert guesses(ask(policy, out)) == []
    world["settings"]["shadows"] = True
    write_json(tmp_path / "data" / "meta" / "recording.json", {"world": world})
    with pytest.raises(UserError, match=r"holds p@0 with frames rendered as .*choose another --out"):
        ask(policy, out)
