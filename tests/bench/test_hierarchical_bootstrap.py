"""Means over training seeds and initial states: closed forms, properties, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lerobot_policy_dap.bench.hierarchy import hierarchical_mean, more_to_settle
from lerobot_policy_dap.bench.statistics import wilson

tables = st.tuples(st.integers(1, 4), st.integers(2, 10), st.integers(0, 2**32 - 1)).map(
    lambda shape: np.random.default_rng(shape[2]).integers(-1, 2, size=shape[:2]).astype(float)
)


def coverage(
    runs: int, states: int, training: float, state: float, *, tasks: int = 1, repetitions: int = 250
) -> float:
    """Share of intervals that hold the truth, of paired differences with luck of training and of the initial state."""
    rng = np.random.default_rng([runs, states, tasks])
    truth, inside = 0.15, 0
    for _ in range(repetitions):
        luck = rng.normal(0, training, size=(runs, 1))
        strata = []
        for _ in range(tasks):
            better = 0.5 + (truth + luck + rng.normal(0, state, size=(1, states))) / 2
            gained = rng.random((runs, states)) < better
            strata.append(gained.astype(float) - (rng.random((runs, states)) < 1 - better))
        interval = hierarchical_mean(strata, bounds=(-1, 1))
        inside += interval.low <= truth <= interval.high
    return inside / repetitions


@pytest.mark.parametrize(
    ("runs", "states", "training", "state", "tasks"),
    [(1, 20, 0, 0, 1), (1, 20, 0, 0.4, 3), (3, 20, 0, 0.4, 1), (3, 20, 0.15, 0, 1), (5, 30, 0.15, 0.3, 1), (5, 20, 0.1, 0, 3)],
)  # fmt: skip
def test_it_covers(runs: int, states: int, training: float, state: float, tasks: int) -> None:
    """Binary outcomes; the luck of training as large as that of 20 episodes, and none."""
    assert 0.91 <= coverage(runs, states, training, state, tasks=tasks) <= 0.995


def test_drawing_states_apart_for_each_training_seed_would_not_cover() -> None:
    """Why states are drawn alike for all training seeds: they share what a state is like."""
    rng = np.random.default_rng(0)
    narrow = []
    for _ in range(40):
        table = rng.normal(0, 1, size=(1, 20)) + rng.normal(0, 0.2, size=(4, 20))
        nested = np.array([
            np.mean([row[rng.integers(20, size=20)] for row in table[rng.integers(4, size=4)]]) for _ in range(300)
        ])  # fmt: skip
        low, high = np.quantile(nested, [0.025, 0.975])
        ours = hierarchical_mean([table], bounds=(-9, 9))
        narrow.append((high - low) / (ours.high - ours.low))
    assert np.mean(narrow) < 0.7


def test_one_training_seed_is_students_interval_where_that_is_right() -> None:
    """Many states, a symmetric spread: the t interval, to a few per cent of its width."""
    values = np.random.default_rng(2).normal(0.1, 0.3, size=(1, 60))
    expected = stats.t.interval(0.95, 59, loc=values.mean(), scale=stats.sem(values[0]))
    interval = hierarchical_mean([values], bounds=(-9, 9))
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.05 * (expected[1] - expected[0]))
    assert interval.training == 0


def test_with_one_training_seed_its_variance_is_that_of_a_mean_of_independent_means() -> None:
    """The unbiased one, of tasks of different sizes too."""
    rng = np.random.default_rng(4)
    strata = [rng.normal(size=(1, n)) for n in (5, 9, 30)]
    interval = hierarchical_mean(strata, bounds=(-9, 9))
    assert interval.episodes == pytest.approx(sum(stats.sem(table[0]) ** 2 for table in strata) / 9)


@pytest.mark.parametrize(
    ("training", "state", "noise", "tasks", "parts"),
    [(2, 3, 1, 1, (3, 9)), (2, 3, 1, 2, (3.5, 4.5)), (3, 0.5, 1, 1, (8, 1)), (0.5, 3, 1, 1, (0, 9))],
)
def test_variance_is_that_of_two_way_clustering_and_splits_into_its_parts(
    training: float, state: float, noise: float, tasks: int, parts: tuple[float, float]
) -> None:
    """Two seeds, two states: squares of their luck and of what is neither's are the variances of their means."""
    ways = np.array([-1.0, 1.0])
    table = training * ways[:, None] + state * ways + noise * np.outer(ways, ways)
    interval = hierarchical_mean([table] * tasks, bounds=(-99, 99))
    assert (interval.training, interval.episodes) == pytest.approx(parts)


def test_noise_leaves_the_degrees_of_freedom_to_the_luck_of_training_and_states() -> None:
    """It has no part in their means, so that the interval narrows by the root of the variance and by nothing else."""
    ways = np.array([-1.0, 1.0])
    without = 2 * ways[:, None] + 3 * ways
    plain, noisy = (hierarchical_mean([without + k * np.outer(ways, ways)], bounds=(-99, 99)) for k in (0, 1))
    assert noisy.high - noisy.low == pytest.approx((plain.high - plain.low) * np.sqrt(12 / 13))


def lean(strata: list[np.ndarray]) -> float:
    """How much further the interval reaches up than down."""
    interval = hierarchical_mean(strata, bounds=(-9, 9))
    return (interval.high - interval.estimate) / (interval.estimate - interval.low)


def test_tasks_are_drawn_apart_so_that_the_lean_of_each_evens_out() -> None:
    rare = np.zeros((1, 20))
    rare[0, 0] = 1
    assert lean([rare]) > 1.8
    assert lean([rare] * 25) < 1.3


def test_states_of_many_tasks_count_no_more_than_their_part() -> None:
    """The luck of training alone gives the interval its lean, however many tasks there are to average over."""
    luck = np.repeat([[0.0], [0.0], [0.0], [1.0]], 20, axis=1)
    strata = [luck + 0.4 * np.random.default_rng(task).choice((-1, 1), size=(1, 20)) for task in range(25)]
    assert lean(strata) == pytest.approx(lean([luck]), rel=0.1)
    assert lean([luck]) > 1.5


def test_few_training_seeds_that_differ_make_it_wide() -> None:
    """With the luck of training alone, it is Student's interval of the training seeds."""
    table = np.repeat([[0.2], [0.5], [0.6]], 30, axis=1)
    interval = hierarchical_mean([table])
    expected = stats.t.interval(0.95, 2, loc=table.mean(), scale=stats.sem(table[:, 0]))
    assert interval.high - interval.low == pytest.approx(expected[1] - expected[0], rel=0.25)
    same = hierarchical_mean([np.repeat(np.random.default_rng(0).integers(0, 2, (1, 30)), 3, axis=0)])
    alone = hierarchical_mean([np.random.default_rng(0).integers(0, 2, (1, 30))])
    assert same.high - same.low == pytest.approx(alone.high - alone.low, rel=0.02), "copies add nothing"


@settings(deadline=None, max_examples=30)
@given(st.lists(tables, min_size=1, max_size=3))
def test_properties(strata: list[np.ndarray]) -> None:
    strata = [table[:1] for table in strata] if len({len(t) for t in strata}) > 1 else strata
    interval = hierarchical_mean(strata, bounds=(-1, 1))
    assert interval == hierarchical_mean(strata, bounds=(-1, 1)), "the same numbers must give the same interval"
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high > interval.low
    assert interval.estimate == pytest.approx(np.mean([table.mean() for table in strata]))
    mirrored = hierarchical_mean([-table for table in strata], bounds=(-1, 1))
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-9)
    wider = hierarchical_mean(strata, 0.99, bounds=(-1, 1))
    assert wider.low <= interval.low
    assert wider.high >= interval.high


def test_tasks_weigh_the_same_and_are_not_resampled() -> None:
    """Tasks that differ from each other, but not within: hardly any doubt about their mean."""
    interval = hierarchical_mean([np.ones((1, 200)), np.zeros((1, 20))])
    assert interval.estimate == 0.5
    assert interval.high - interval.low < 0.05


def test_without_variation_it_keeps_a_width() -> None:
    """No seed differs: as wide as the paired interval of the same seeds (Newcombe 1998, Table III), not a point."""
    flat = hierarchical_mean([np.zeros((1, 54))], bounds=(-1, 1))
    assert (flat.low, flat.high) == pytest.approx((-0.0664, 0.0664), abs=1e-4)
    certain = hierarchical_mean([np.ones((1, 20))])
    assert certain.high == 1
    assert certain.low == pytest.approx(wilson(20, 20).low)
    assert hierarchical_mean([np.ones((1, 20)), np.ones((1, 5))]).low == pytest.approx(wilson(25, 25).low)


def test_what_would_settle_it() -> None:
    rng = np.random.default_rng(1)
    weak = hierarchical_mean([(rng.random((1, 100)) < 0.3) * 1.0 - (rng.random((1, 100)) < 0.2)], bounds=(-1, 1))
    states, runs = more_to_settle(weak, 100, 1)
    assert runs is None
    assert states == pytest.approx(100 * weak.episodes * (1.959964 + 0.841621) ** 2 / weak.estimate**2, abs=1)
    lucky = hierarchical_mean([np.array([[0.0], [0.1], [0.35]]) + rng.normal(0, 0.01, (3, 50))], bounds=(-1, 1))
    states, runs = more_to_settle(lucky, 50, 3)
    assert states is None
    assert runs is not None
    assert runs > 3
    assert more_to_settle(hierarchical_mean([np.zeros((1, 9))], bounds=(-1, 1)), 9, 1) == (None, None)


@pytest.mark.parametrize("strata", [[], [np.zeros((2, 1))], [np.zeros((1, 4)), np.zeros((2, 4))], [np.zeros(4)]])
def test_bad_shapes_are_refused(strata: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="strata"):
        hierarchical_mean(strata)
