"""The statistics against published tables, closed forms, properties and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lerobot_policy_dap.bench.statistics import (
    Interval,
    episodes_to_settle,
    holm,
    mcnemar_exact,
    paired_difference,
    wilson,
)

# Newcombe (Statistics in Medicine 1998, 17:2635-2650), Table III, method 10: both, only a, only b, neither.
NEWCOMBE_TABLE_III = {
    (36, 12, 2, 0): (0.0569, 0.3404),
    (20, 12, 2, 16): (0.0562, 0.3292),
    (18, 12, 2, 18): (0.0562, 0.3290),
    (36, 14, 0, 0): (0.1528, 0.4167),
    (35, 14, 0, 1): (0.1461, 0.4175),
    (18, 14, 0, 18): (0.1441, 0.3963),
    (2, 97, 1, 0): (0.8721, 0.9854),
    (1, 97, 1, 1): (0.8736, 0.9850),
    (0, 29, 1, 0): (0.6666, 0.9882),
    (2, 98, 0, 0): (0.9178, 0.9945),
    (1, 98, 0, 1): (0.9171, 0.9916),
    (0, 30, 0, 0): (0.8395, 1.0),
    (54, 0, 0, 0): (-0.0664, 0.0664),
    (53, 0, 0, 1): (-0.0729, 0.0729),
    (30, 0, 0, 24): (-0.0358, 0.0358),
    (29, 0, 0, 25): (-0.0354, 0.0354),
    (28, 0, 0, 26): (-0.0352, 0.0352),
    (27, 0, 0, 27): (-0.0351, 0.0351),
}

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def vectors(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def test_wilson_against_published_values() -> None:
    # Newcombe (Statistics in Medicine 1998, 17:857-872), Table I, method 3.
    for (successes, n), limits in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        interval = wilson(successes, n)
        assert (interval.low, interval.high) == pytest.approx(limits, abs=6e-5)
        assert interval.estimate == successes / n


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_its_estimate_and_has_width(count: tuple[int, int]) -> None:
    interval = wilson(*count)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 0


@pytest.mark.parametrize(("table", "limits"), NEWCOMBE_TABLE_III.items())
def test_paired_difference_reproduces_the_published_table(
    table: tuple[int, int, int, int], limits: tuple[float, float]
) -> None:
    interval = paired_difference(*vectors(*table))
    # One unit of the last printed digit: row (1, 97, 1, 1) is rounded down in print.
    assert (interval.low, interval.high) == pytest.approx(limits, abs=1e-4)


@given(pairs)
def test_paired_difference_properties(table: list[tuple[bool, bool]]) -> None:
    a, b = map(list, zip(*table, strict=True))
    interval, mirrored = paired_difference(a, b), paired_difference(b, a)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 1e-6
    assert interval.estimate == pytest.approx(np.mean(a) - np.mean(b))
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)
    wider = paired_difference(a, b, confidence=0.99)
    assert wider.low <= interval.low
    assert wider.high >= interval.high


@pytest.mark.parametrize("n", [12, 20])
def test_paired_difference_covers(n: int) -> None:
    """Exact coverage over a grid of truths: the multinomial weight of every table whose interval holds the truth."""
    tables = [
        (e, f, g, n - e - f - g) for e in range(n + 1) for f in range(n + 1 - e) for g in range(n + 1 - e - f)
    ]
    intervals = [paired_difference(*vectors(*table)) for table in tables]
    low, high = np.array([(interval.low, interval.high) for interval in intervals]).T
    coverages = []
    for p_a in np.linspace(0.05, 0.95, 10):
        for p_b in np.linspace(0.1, 0.9, 9):
            for strength in (0.0, 0.3, 0.6):
                # `strength` moves from independence to the greatest possible agreement.
                both = (1 - strength) * p_a * p_b + strength * min(p_a, p_b)
                truth = [both, p_a - both, p_b - both, 1 - p_a - p_b + both]
                weight = stats.multinomial.pmf(tables, n, truth)
                coverages.append(weight[(low <= p_a - p_b + 1e-12) & (high >= p_a - p_b - 1e-12)].sum())
    assert min(coverages) > 0.92
    assert np.mean(coverages) == pytest.approx(0.955, abs=0.015)


@given(pairs)
def test_mcnemar_is_the_sign_test(table: list[tuple[bool, bool]]) -> None:
    a, b = map(np.asarray, zip(*table, strict=True))
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert mcnemar_exact(a, b) == pytest.approx(min(2 * tail, 1.0))
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact([True] * 5, [True] * 5) == 1.0
    # 2·(1 + 12 + 66) / 4096
    assert mcnemar_exact(*vectors(3, 10, 2, 4)) == pytest.approx(158 / 4096)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_properties(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.asarray(p)).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert adjusted[order[0]] == pytest.approx(min(len(p) * min(p), 1))


def test_episodes_to_settle_by_hand() -> None:
    # ψ = 0.2, d = 0.1: (1.959964·0.447214 + 0.841621·0.435890)² / 0.01 = 154.6
    assert episodes_to_settle(*vectors(50, 15, 5, 30)) == 155
    # α = 0.01: (2.575829·0.447214 + 0.841621·0.435890)² / 0.01 = 230.7
    assert episodes_to_settle(*vectors(50, 15, 5, 30), confidence=0.99) == 231
    assert episodes_to_settle([True, False], [True, False]) is None
    assert episodes_to_settle(*vectors(5, 3, 3, 5)) is None


def test_episodes_to_settle_gives_the_power_it_promises() -> None:
    """With that many pairs the asymptotic test rejects in about four of five repetitions."""
    n = episodes_to_settle(*vectors(50, 20, 8, 22))
    assert n is not None
    draws = np.random.default_rng(0).multinomial(n, [0.5, 0.2, 0.08, 0.22], size=20_000)
    z = (draws[:, 1] - draws[:, 2]) / np.sqrt(draws[:, 1] + draws[:, 2])
    assert np.mean(abs(z) > stats.norm.isf(0.025)) == pytest.approx(0.8, abs=0.02)


def test_an_interval_that_ends_at_zero_holds_it() -> None:
    assert [Interval(0.0, low, high).excludes_zero() for low, high in ((0.1, 0.2), (-0.2, -0.1))] == [True, True]
    assert not any(Interval(0.0, low, high).excludes_zero() for low, high in ((0, 0.2), (-0.2, 0), (-0.1, 0.1)))


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="at least one pair"):
        mcnemar_exact([], [])
