"""Results of hand-made episodes whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from synthetic_bench import make_episodes, make_meta

from lerobot_policy_dap.bench import words
from lerobot_policy_dap.bench.episodes import BLIND, CLEAN, Episode
from lerobot_policy_dap.bench.means import ALL
from lerobot_policy_dap.bench.results import summarise
from lerobot_policy_dap.bench.statistics import Interval, paired_difference, wilson
from lerobot_policy_dap.errors import UserError


def cell(
    policy: str, shift: str, severity: int, successes: str, first_seed: int = 0, **changes: Any
) -> list[Episode]:
    """Episodes from a string such as "110": success of seeds first_seed, first_seed + 1, ..."""
    episodes = [
        Episode(
            policy=policy,
            task="reach",
            shift=shift,
            severity=severity,
            seed=first_seed + i,
            success=mark == "1",
            steps=40 if mark == "1" else 100,
            episode_return=1.0,
            plan_ms=3.0 + i,
            checkpoint=policy * 8,
            versions="v",
        )
        for i, mark in enumerate(successes)
    ]
    return [replace(episode, **changes) for episode in episodes]


def find(entries: Any, **where: Any) -> Any:
    [entry] = [entry for entry in entries if all(entry[key] == value for key, value in where.items())]
    return entry


def test_cells() -> None:
    results = summarise(cell("p", CLEAN, 0, "1101") + cell("p", "fog", 2, "0100"), {})
    clean, fog = results["cells"]
    interval = wilson(3, 4)
    assert clean == {
        "policy": "p", "task": "reach", "shift": "none", "severity": 0, "n": 4, "successes": 3, "rate": 0.75,
        "low": interval.low, "high": interval.high, "training_seeds": 1, "luck_low": None, "luck_high": None, "mean_steps": 55.0, "plan_ms": 4.5, "at_floor": None,
    }  # fmt: skip
    assert (fog["successes"], fog["mean_steps"]) == (1, 85.0)


def test_only_common_seeds_pair() -> None:
    """Clean has seeds 0..5, fog 2..7: four pairs, of which seeds 2 and 3 succeed only when clean."""
    results = summarise(cell("p", CLEAN, 0, "001111") + cell("p", "fog", 1, "001100", first_seed=2), {})
    drop = find(results["drops"], shift="fog")
    expected = paired_difference([1, 1, 1, 1], [0, 0, 1, 1])
    assert drop["n"] == 4
    assert (drop["drop"], drop["low"], drop["high"]) == (0.5, expected.low, expected.high)
    assert drop["p"] == drop["p_holm"] == 0.5
    assert find(results["means"], kind="drop", shift="fog")["estimate"] == 0.5


def test_no_common_seed_is_left_out() -> None:
    results = summarise(cell("p", CLEAN, 0, "11") + cell("p", "fog", 1, "11", first_seed=5), {})
    assert results["drops"] == []
    assert [entry["kind"] for entry in results["means"]] == ["rate"]


def test_difference_order_and_words() -> None:
    """The first policy of the list is the baseline."""
    episodes = cell("b", CLEAN, 0, "1" * 20) + cell("a", CLEAN, 0, "1" * 20)
    episodes += cell("b", "distractors", 4, "0" * 10 + "1" * 10)
    episodes += cell("a", "distractors", 4, "1" * 5 + "0" * 5 + "0" * 4 + "1" * 6)
    results = summarise(episodes, {"policies": [{"name": "b"}, {"name": "a"}]})
    difference = find(results["differences"], shift="distractors")
    assert (difference["a"], difference["b"], difference["difference"]) == ("a", "b", pytest.approx(0.05))
    assert not difference["established"]
    assert difference["words"] == (
        "a minus b under distractors 4: +5 points [-24, +33] over 20 paired episodes: not established; about 1,700 "
        "paired episodes would settle a difference of this size."
    )
    clean = find(results["differences"], shift=CLEAN)
    assert clean["words"] == (
        "a minus b on clean episodes: 0 points [-16, +16] over 20 paired episodes: not established; these episodes "
        "show no difference to settle."
    )


def test_an_established_difference() -> None:
    episodes = cell("b", CLEAN, 0, "1" * 20) + cell("a", CLEAN, 0, "1" * 20)
    episodes += cell("b", "fog", 1, "0" * 12 + "1" * 8) + cell("a", "fog", 1, "1" * 20)
    results = summarise(episodes, {"policies": [{"name": "b"}, {"name": "a"}]})
    difference = find(results["differences"], shift="fog")
    assert difference["established"]
    assert difference["p"] == pytest.approx(2 * 0.5**12)
    assert difference["p_holm"] == pytest.approx(2 * difference["p"])
    assert difference["words"].endswith(
        "over 20 paired episodes: established (exact McNemar p < 0.001 after Holm)."
    )
    assert find(results["means"], kind="difference", shift=ALL)["established"]
    assert any("1 is established" in sentence for sentence in results["summary"])


def test_the_blind_floor() -> None:
    """Above the floor, at it, and without one; paired on the common seeds."""
    episodes = cell("p", CLEAN, 0, "1" * 20) + cell("p", BLIND, 0, "0" * 16 + "1" * 4)
    episodes += cell("p", "fog", 1, "0" * 14 + "1" * 6) + cell("p", "haze", 1, "1" * 3, first_seed=90)
    results = summarise(episodes, {})
    assert find(results["cells"], shift=CLEAN)["at_floor"] is False
    assert find(results["cells"], shift="fog")["at_floor"] is True
    assert find(results["cells"], shift="haze")["at_floor"] is None
    assert find(results["cells"], shift=BLIND)["at_floor"] is None
    assert any("1 of 2 shifted cells does not rise above" in sentence for sentence in results["summary"])
    assert not any(entry["shift"] == BLIND for entry in results["drops"])


def test_a_policy_that_does_not_see_is_called_out() -> None:
    results = summarise(cell("p", CLEAN, 0, "1" * 9 + "0") + cell("p", BLIND, 0, "1" * 10), {})
    assert any(
        "p succeeds on reach no more often with clean images than with none" in c for c in results["caveats"]
    )


def test_differences_at_the_floor_say_so() -> None:
    episodes = []
    for policy in "ab":
        episodes += cell(policy, CLEAN, 0, "1" * 20) + cell(policy, BLIND, 0, "0" * 20)
        episodes += cell(policy, "fog", 1, "0" * 19 + ("1" if policy == "b" else "0"))
    difference = find(summarise(episodes, {})["differences"], shift="fog")
    assert difference["at_floor"] is True
    assert "both are at their blind floor" in difference["words"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (cell("p", CLEAN, 0, "1"), "occurs twice"),
        (cell("p", "fog", 1, "1", versions="mujoco 3.4.0"), "different software"),
        (cell("p", "fog", 1, "1", task="push", versions="mujoco 3.4.0"), "different software"),
        (cell("p", "fog", 1, "1", checkpoint="0"), "two checkpoints"),
    ],
)
def test_what_cannot_be_compared_is_refused(extra: list[Episode], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        summarise(cell("p", CLEAN, 0, "11") + extra, {})
    assert "\n" not in str(caught.value)


def test_nothing_to_summarise() -> None:
    with pytest.raises(UserError, match="no episodes"):
        summarise([], {})


def test_training_seed_caveat() -> None:
    """A policy is one of several trainings when several were evaluated, whatever was planned or shares its type."""
    planned = [
        {"name": name, "type": "dap", "coupling": "x", "train_seed": seed} for name in "abc" for seed in (0, 1, 2)
    ]

    def caveats(*runs: tuple[str, int]) -> str:
        episodes = [
            e for p, seed in runs for e in cell(p, CLEAN, 0, "11", training_seed=seed, checkpoint=f"{p}{seed}")
        ]
        results = summarise(episodes, {"policies": planned})
        assert ("One training seed for each policy" in " ".join(results["summary"])) == (
            "trained once" in " ".join(results["caveats"])
        )
        return " ".join(results["caveats"])

    assert "Each policy was trained once" in caveats(("a", 0), ("b", 0))
    assert "Each policy was trained once" in caveats(("a", 0), ("b", 1)), "arms of one type are not one method"
    mixed = caveats(("a", 0), ("a", 1), ("b", 0))
    assert "b was trained from one training seed" in mixed
    assert "trained once" not in mixed
    assert "trained from one" not in caveats(("a", 0), ("a", 1), ("b", 0), ("b", 1))


def test_how_policies_of_different_numbers_of_training_seeds_are_compared() -> None:
    """Training seed 2 of b stands beside 2 of a, not beside its first."""
    episodes = [
        e
        for policy, marks in (("a", {1: "00", 2: "11"}), ("b", {2: "11"}))
        for seed, success in marks.items()
        for e in cell(policy, CLEAN, 0, success, training_seed=seed, checkpoint=f"{policy}{seed}")
    ]
    results = summarise(episodes, {})
    assert [d["difference"] for d in results["differences"]] == [0.0]
    said = " ".join(results["caveats"])
    assert "compared on equal ones where one has none that the other lacks, otherwise the first beside" in said


def test_several_tasks_keep_apart() -> None:
    episodes = make_episodes(clean=6, shifted=4, blind=4) + make_episodes(
        clean=6, shifted=4, blind=4, task="push-v3"
    )
    results = summarise(episodes, make_meta())
    assert {entry["task"] for entry in results["means"]} == {ALL, "push-v3", "button-press-topdown-v3"}
    assert len(results["drops"]) == 2 * 2 * 10
    assert len(results["differences"]) == 2 * 11
    assert all(" of push-v3: " in d["words"] for d in results["differences"] if d["task"] == "push-v3")


def test_a_realistic_evaluation() -> None:
    episodes = make_episodes()
    results = summarise(episodes, make_meta())
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results["meta"]["policies"][0]["diagnostics"]["action-conditioned gain"] is None
    assert len(results["cells"]) == 2 * (1 + 10 + 1)
    assert [c["shift"] for c in results["cells"][:4]] == [
        CLEAN,
        "light_intensity",
        "light_intensity",
        "light_direction",
    ]
    assert [c["policy"] for c in results["cells"]] == ["none"] * 12 + ["two_way"] * 12
    rate = find(results["means"], kind="rate", policy="none")
    shifted = [c["rate"] for c in results["cells"] if c["policy"] == "none" and c["shift"] not in (CLEAN, BLIND)]
    assert rate["estimate"] == pytest.approx(sum(shifted) / len(shifted))
    difference = find(results["means"], kind="difference", shift=ALL)
    cells = [d["difference"] for d in results["differences"] if d["shift"] != CLEAN]
    assert difference["estimate"] == pytest.approx(sum(cells) / len(cells))
    assert results == summarise(reversed(episodes), make_meta()), "the order of episodes must not matter"


def test_words() -> None:
    assert words.points(Interval(0.05, -0.14, 0.23)) == "+5 points [-14, +23]"
    assert words.points(Interval(-0.01, -0.14, 0.003)) == "-1 point [-14, +0.3]"
    assert words.signed(-0.0001) == words.signed(0.0) == "0"
    assert words.rate(Interval(0.75, 0.53, 0.888)) == "75% [53, 89]"
    assert words.p_value(0.0004) == "< 0.001"
    assert words.p_value(0.0041) == "= 0.004"
    assert words.about(1234) == "1,200"
    assert words.about(77) == "77"
    assert words.condition("light_intensity", 4) == "light intensity 4"
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
