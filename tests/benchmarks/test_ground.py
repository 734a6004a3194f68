"""A task is judged fit as the plan says."""

import pytest
from ground_table import markdown, verdict


def rates(expert=1.0, none=(0.0, 0.0), blind=(0.0, 0.0)):
    found = {("expert", "none"): expert}
    for n, learned, unseeing in zip((25, 50), none, blind, strict=False):
        found |= {(f"none-{n}", "none"): learned, (f"none-{n}", "blind"): unseeing}
    return found


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (rates(none=(0.60, 0.80)), "**fit, 25**"),
        (rates(none=(0.58, 0.94)), "**fit, 50**"),
        (rates(none=(0.58, 0.96)), "half learned; no room above"),
        (rates(none=(0.58,)), "half learned"),
        (rates(none=(0.80, 0.80), blind=(0.16, 0.14)), "**fit, 50**"),
        (rates(none=(0.80, 0.80), blind=(0.16, 0.16)), "needs no image"),
        (rates(expert=0.88, none=(0.80, 0.80)), "the expert fails too often"),
        ({("none-25", "none"): 0.8, ("none-25", "blind"): 0.0}, "the expert fails too often"),
    ],
)
def test_verdict(measured, said):
    assert verdict(measured) == said


def test_the_table_leaves_what_was_not_measured_empty():
    lines = markdown({"push-v3": rates(none=(0.6, 0.8)), "soccer-v3": rates(none=(0.1,))}).splitlines()
    assert lines[-2:] == [
        "| push | hard | 100 | 60 | 80 | 0 | 0 | **fit, 25** |",
        "| soccer | medium | 100 | 10 |  | 0 |  | half learned |",
    ]
