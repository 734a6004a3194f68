"""`dap bench run` as it is typed: what it prints, and what it refuses before any work."""

import shutil

import pytest
from commands_support import TASK, dap, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


def bench(policy, out, *more):
    return (
        "bench", "run", "--out", out, "--policy", policy, "--task", TASK, "--factor", "table_color", "--severity", "3",
        "--episodes", 1, "--max-steps", 8, *more,
    )  # fmt: skip


def test_policies_and_expert_in_one_table_and_a_second_task_added(trained, tmp_path):
    out = tmp_path / "out"
    done = dap(*bench(f"mine={trained}", out, "--policy", "expert", "--clean-episodes", 2))
    assert f"results: {out}" in done.stdout
    from lerobot_policy_dap.bench.store import open_results

    first = open_results(out)
    assert [(e.policy, e.shift) for e in first.episodes] == [
        ("mine", "none"), ("mine", "none"), ("mine", "blind"), ("mine", "table_color"),
        ("expert", "none"), ("expert", "none"), ("expert", "table_color"),
    ]  # fmt: skip
    assert [(p["name"], p["type"]) for p in first.plan["policies"]] == [("mine", "dap"), ("expert", "expert")]
    dap(*bench("expert", out, "--task", "reach"))
    both = open_results(out)
    assert both.episodes[:7] == first.episodes
    assert [(e.task, e.shift) for e in both.episodes[7:]] == [("reach-v3", "none"), ("reach-v3", "table_color")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "drawer-open,dance"], "unknown task 'dance'"),
        (["--factor", "fog"], "unknown shift 'fog'; choose one of"),
        (["--severity", "6"], "severity is 6"),
        (["--severity", "0"], "severity is 0"),
        (["--severity", "high"], "whole numbers"),
        (["--severity", ","], "names no level"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--episodes", "3", "--clean-episodes", "2"], "--clean-episodes must be at least --episodes"),
        (["--first-seed", "-1"], "--first-seed is -1"),
        (["--policy", "other=nowhere"], "is no checkpoint"),
        (["--policy", "mine@one=nowhere"], "training seed, a whole number"),
    ],
)
def test_refused_before_any_work(trained, tmp_path, more, message):
    out = tmp_path / "out"
    assert message in refused(*bench(f"mine={trained}", out, *more))
    assert not out.exists()


def test_a_factor_that_a_task_has_no_object_for(trained, tmp_path):
    """Named, it is refused; among `all`, it is left out and said so."""
    line = refused(*bench(f"mine={trained}", tmp_path / "out", "--factor", "object_size"))
    assert "drawer-open-v3 cannot be shifted by object_size" in line
    done = dap(*bench("expert", tmp_path / "out", "--factor", "all"))
    assert "left out: object_size cannot be applied to drawer-open-v3" in done.stderr
    from lerobot_policy_dap.bench.store import open_results

    results = open_results(tmp_path / "out")
    assert "object_size" not in {e.shift for e in results.episodes}
    assert "table_color" in {e.shift for e in results.episodes}
    assert results.plan["left_out"] == [["drawer-open-v3", "object_size"]]


def test_one_folder_has_one_writer(trained, tmp_path):
    from lerobot_policy_dap.bench.request import sole_writer

    with sole_writer(tmp_path / "out"):
        assert "another run is writing into" in refused(*bench(f"mine={trained}", tmp_path / "out"))


def test_a_damaged_plan_is_named(tmp_path):
    out = tmp_path / "out"
    dap(*bench("expert", out))
    whole = tmp_path / "whole"
    shutil.copytree(out, whole)
    (out / "plan.json").write_text((out / "plan.json").read_text()[:-20])
    assert "plan.json is not readable JSON" in refused(*bench("expert", out))
    (whole / "plan.json").write_text("{}")
    assert "is not the plan of" in refused(*bench("expert", whole))


def test_ctrl_c_is_a_status_of_its_own(tmp_path, monkeypatch):
    from lerobot_policy_dap.worlds import collect

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "collect", interrupted)
    done = dap("collect", "--task", TASK, "--out", tmp_path / "data", check=False)
    assert done.returncode == 130
    assert done.stderr.strip().endswith("run the same command to go on")


def test_what_cannot_be_written_is_one_line(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = refused(*bench(f"mine={trained}", tmp_path / "file"))
    assert f"{tmp_path / 'file'} cannot be used: File exists" in line
    assert (tmp_path / "file").read_text() == "mine"
