"""Any two arms can be compared, of one round or of two, over what both have."""

from dataclasses import replace

import pytest
from difference import difference
from test_round_results import none_fails_and_two_way_succeeds_under_shift
from test_rounds import LIKE, TINY

from lerobot_policy_dap.bench.episodes import write_episodes
from lerobot_policy_dap.errors import UserError


@pytest.fixture
def rounds(tmp_path):
    """`tiny`, whose `none` fails under shift, and `more`, whose `always` succeeds with training seed 1 alone."""
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "more.toml").write_text(LIKE.replace("[1]", "[0, 1, 2]"))
    none = [e for e in none_fails_and_two_way_succeeds_under_shift() if e.policy == "none"]
    always = [
        replace(e, policy="always", training_seed=seed, success=seed == 1)
        for e in none[: len(none) // 2]
        for seed in (0, 1, 2)
    ]
    for name, episodes in (("tiny", none), ("more", always)):
        write_episodes(tmp_path / name / "episodes.parquet", episodes)
    return tmp_path


def points(text):
    return {row.split("|")[1].strip(): row.split("|")[2].split("[")[0].strip() for row in text.splitlines()[4:]}


def test_arms_of_two_rounds_are_compared_over_the_training_seeds_that_both_have(rounds):
    text = difference("more/always", "tiny/none", set(), rounds, rounds)
    assert text.startswith("more/always minus tiny/none: drawer-open; training seeds 0, 1; ")
    assert points(text) == {"all factors": "+50.0", "clean": "-50.0", "light intensity": "+50.0"}
    back = difference("tiny/none", "more/always", set(), rounds, rounds)
    assert points(back) == {"all factors": "-50.0", "clean": "+50.0", "light intensity": "-50.0"}


def test_training_seeds_can_be_chosen(rounds):
    text = difference("more/always", "tiny/none", {1}, rounds, rounds)
    assert "training seeds 1; " in text
    assert points(text) == {"all factors": "+100.0", "clean": "+0.0", "light intensity": "+100.0"}


@pytest.mark.parametrize(
    ("first", "second", "seeds", "message"),
    [
        ("tiny/none", "tiny/none", set(), "tiny/none and tiny/none are one arm"),
        ("tiny/none", "more/always", {2}, "no training seed in common"),
        ("tiny/nothing", "more/always", set(), "the arms of tiny are none, feedback_off, two_way"),
        ("large/none", "more/always", set(), "large.toml is missing"),
        ("tiny", "more/always", set(), "tiny: the arms of tiny are none"),
    ],
)
def test_what_cannot_be_compared_is_refused(rounds, first, second, seeds, message):
    with pytest.raises(UserError, match=message):
        difference(first, second, seeds, rounds, rounds)
