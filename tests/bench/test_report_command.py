"""`dap bench report` on a folder as `dap bench run` leaves it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from synthetic_bench import make_grid

from lerobot_policy_dap.bench.episodes import Episode
from lerobot_policy_dap.bench.present import present
from lerobot_policy_dap.bench.reading import read_result_set
from lerobot_policy_dap.bench.store import UnitKey, write_unit
from lerobot_policy_dap.files import sha256
from lerobot_policy_dap.worlds.world import world_versions

sys.path.insert(0, str(Path(__file__).parent.parent / "commands"))
from commands_support import dap

VERSIONS = "lerobot 0.6.1, " + ", ".join(f"{name} {number}" for name, number in world_versions().items())


def evaluation(folder: Path, episodes: Iterable[Episode], films: int = 1, missing: int = 0) -> Path:
    """Keeps the episodes as units of one cell, with a few random actions as films of the first seeds."""

    def cell(e: Episode) -> tuple[Any, ...]:
        return e.policy, e.training_seed, e.task, e.shift, e.severity

    cells = []
    rng = np.random.default_rng(0)
    for key, rows in groupby(episodes, cell):
        unit = list(rows)
        cells.append(dict(zip(UnitKey.CELL, key, strict=True)) | {"episodes": len(unit)})
        actions = {e.seed: rng.uniform(-1, 1, (6, 4)).astype(np.float32) for e in unit[:films]}
        if len(cells) > missing:
            write_unit(folder, UnitKey(*key, unit[0].seed, len(unit)), unit, actions)
    policies = {(c["policy"], c["training_seed"]) for c in cells}
    plan = {
        "schema": 1,
        "settings": {"max_steps": 200, "batch": 50, "first_seed": 10_000, "device": "cpu", "versions": VERSIONS},
        "policies": [
            {"name": name, "training_seed": seed, "type": name, "path": None, "checkpoint": "0"}
            for name, seed in sorted(policies)
        ],
        "cells": cells,
        "left_out": [["drawer-open-v3", "object_size"]],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def episodes(shifts: tuple[str, ...] = ("none", "blind", "distractors")) -> list[Episode]:
    grid = make_grid(
        episodes=4,
        clean=5,
        training_seeds=2,
        severities=(1, 3),
        tasks=("drawer-open-v3",),
        policies=("act", "expert"),
    )
    return [e for e in grid if e.shift in shifts]


@pytest.mark.slow
def test_a_folder_becomes_a_page_with_pictures(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", episodes())
    done = dap("bench", "report", folder, "--workers", "1")
    assert f"report: {folder / 'report.html'}" in done.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1 + 2
    assert page.count("<video") == 2 * 2, "clean and distractors 3, of two policies"
    assert "Factor object_size cannot be applied to drawer-open-v3" in page
    assert "dap bench report" in page
    assert VERSIONS in page
    found = json.loads((folder / "report.json").read_text())
    assert {c["training_seeds"] for c in found["cells"] if c["policy"] == "act"} == {2}


def test_an_unfinished_evaluation_says_so(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", episodes(), missing=1)
    dap("bench", "report", folder, "--no-pictures", "--out", tmp_path / "page.html")
    assert "of its plan, 1 part to go" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_checkpoint_is_described_while_it_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    """By its own training seed, not by the number of the replicate; not any more once it was trained on."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(json.dumps({"type": "act", "coupling": "x"}))
    (checkpoint / "train_config.json").write_text(json.dumps({"seed": 1000, "steps": 7}))
    save_file({"w": np.zeros((2, 3), np.float32)}, checkpoint / "model.safetensors")
    folder = evaluation(tmp_path / "run", [e for e in episodes() if e.policy == "act" and e.training_seed == 0])
    plan = json.loads((folder / "plan.json").read_text())
    evaluated = sha256(checkpoint / "model.safetensors")
    plan["policies"][0] |= {"path": str(checkpoint), "checkpoint": evaluated}
    (folder / "plan.json").write_text(json.dumps(plan))

    def told() -> tuple[Any, str]:
        out = tmp_path / "page.html"
        [policy] = present(folder, out, command="", workers=1, pictures=False)["meta"]["policies"]
        return policy, out.read_text(encoding="utf-8").split('id="training"')[1].split("</section>")[0]

    policy, table = told()
    assert (policy["train_seed"], policy["training_seed"], policy["parameters"]) == (1000, 0, 6)
    assert policy["checkpoint"] == evaluated
    assert "1000" in table
    save_file({"w": np.ones((4, 4), np.float32)}, checkpoint / "model.safetensors")
    policy, table = told()
    assert policy == {"name": "act", "type": "act", "checkpoint": evaluated, "training_seed": 0}
    assert "training seed" not in table


def test_a_report_needs_no_checkpoint_any_more(tmp_path: Path) -> None:
    """Nor one that is whole: a folder without its weights, or half a line that a machine left when it went down."""
    step = tmp_path / "training" / "checkpoints" / "000007" / "pretrained_model"
    step.mkdir(parents=True)
    (step / "config.json").write_text(json.dumps({"type": "act"}))
    folder = evaluation(tmp_path / "run", [e for e in episodes() if e.policy == "act" and e.training_seed == 0])
    plan = json.loads((folder / "plan.json").read_text())
    plan["policies"][0] |= {"path": str(step), "image_size": "84"}
    for weights in (False, True):
        if weights:
            save_file({"w": np.zeros((2, 3), np.float32)}, step / "model.safetensors")
            plan["policies"][0]["checkpoint"] = sha256(step / "model.safetensors")
            (tmp_path / "training" / "train_log.jsonl").write_text(
                '{"step": 7, "outcome_rank": 3.5}\n{"step": 14, "outcome_rank": 9}\n{"step": 15, "out'
            )
            (step.parent / "training_state").mkdir()
            (step.parent / "training_state" / "training_step.json").write_text('{"step": 7}')
        (folder / "plan.json").write_text(json.dumps(plan))
        [policy] = present(folder, tmp_path / "page.html", command="", workers=1)["meta"]["policies"]
        assert (policy["image_size"], policy.get("diagnostics")) == (
            "84",
            {"outcome_rank": 3.5} if weights else None,
        )
    assert read_result_set(folder).image_sizes == {"act": "84"}


def test_bad_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", episodes())
    row = next((folder / "rows").iterdir())
    row.write_bytes(row.read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    whole = evaluation(tmp_path / "whole", episodes())
    dap("bench", "report", whole, "--no-pictures", "--task", "drawer-open")
    done = dap("bench", "report", whole, "--no-pictures", "--task", "reach", check=False)
    assert (done.returncode, "no finished episodes of reach-v3" in done.stderr) == (2, True)
    for wrong, message in ((folder, row.name), (tmp_path / "empty", "holds no evaluation")):
        done = dap("bench", "report", wrong, "--no-pictures", check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "report.html").exists()
    done = dap("bench", "compare", folder, folder, check=False)
    assert (done.returncode, row.name in done.stderr) == (2, True)
