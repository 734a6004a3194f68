"""A task is judged fit as the plan says."""

import pytest
from ground_table import POLICY, markdown, verdict


def row(expert=50, none=(0, 0), blind=(0, 0)):
    def cell(n):
        return {"successes": n, "episodes": 50}

    measured = {f"none, {n}": cell(won) for n, won in zip((25, 50), none, strict=True)}
    measured |= {f"blind, {n}": cell(won) for n, won in zip((25, 50), blind, strict=True)}
    return {"task": "push", "steps": 4000, "policy": POLICY, "expert": cell(expert), **measured}


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (row(none=(30, 40)), "**fit, 25**"),
        (row(none=(29, 47)), "**fit, 50**"),
        (row(none=(29, 48)), "half learned; no room above"),
        (row(none=(40, 40), blind=(8, 7)), "**fit, 50**"),
        (row(none=(40, 40), blind=(8, 8)), "needs no image"),
        (row(expert=44, none=(40, 40)), "the expert fails too often"),
        ({"task": "push", "error": "no episode succeeded"}, "no episode succeeded"),
    ],
)
def test_verdict(measured, said):
    assert verdict(measured, (25, 50)) == said


def test_the_table_has_the_rows_of_one_training():
    short = row(none=(1, 2)) | {"steps": 1500}
    other = row(none=(3, 4)) | {"policy": POLICY | {"encoder_width": 8}}
    failed = {"task": "soccer", "steps": 4000, "policy": POLICY, "error": "no episode succeeded"}
    lines = markdown([row(none=(30, 40)), short, other, failed], 4000, (25, 50)).splitlines()
    assert [line for line in lines if line.startswith("| push")] == [
        "| push |  | 100 | 60 | 80 | 0 | 0 | **fit, 25** |"
    ]
    assert lines[-1] == "| soccer |  |  |  |  |  |  | no episode succeeded |"
