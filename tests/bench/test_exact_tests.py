"""The exact tests against McNemar's, against SciPy, and against a hand count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lerobot_policy_dap.bench.exact import matched_sets, sign_flips
from lerobot_policy_dap.bench.statistics import mcnemar_exact

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
sets = st.tuples(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))


@given(pairs)
def test_with_one_severity_both_are_mcnemars(table: list[tuple[bool, bool]]) -> None:
    a, b = (np.asarray(column) for column in zip(*table, strict=True))
    assert matched_sets([(a, b[:, None])]) == pytest.approx(mcnemar_exact(a, b))
    assert sign_flips(a.astype(int) - b) == pytest.approx(mcnemar_exact(a, b))


@given(sets)
def test_matched_sets_against_scipy(shape: tuple[int, int, int]) -> None:
    n, k, seed = shape
    success = np.random.default_rng(seed).random((n, k + 1)) < 0.6
    null = stats.poisson_binom(success.mean(axis=1))
    observed = success[:, 0].sum()
    expected = min(1, 2 * min(null.cdf(observed), null.sf(observed - 1)))
    assert matched_sets([(success[:, 0], success[:, 1:])]) == pytest.approx(expected, abs=1e-12)
    half = n // 2
    if half:
        split = [(success[:half, 0], success[:half, 1:]), (success[half:, 0], success[half:, 1:])]
        assert matched_sets(split) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_counts_every_signing(differences: list[int]) -> None:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    expected = np.mean([total >= abs(sum(differences)) for total in sums])
    assert sign_flips(differences) == pytest.approx(expected)


def test_sign_flips_against_scipy() -> None:
    differences = np.random.default_rng(4).integers(-3, 5, size=12)
    found = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flips(differences) == pytest.approx(found.pvalue)


def test_the_level_is_kept_where_seeds_are_alike_under_all_severities() -> None:
    """A clean episode stands beside four severities: counting it four times would reject far too often."""
    rng = np.random.default_rng(0)
    ours, naive = [], []
    for _ in range(400):
        easy = rng.random((40, 1))
        success = rng.random((40, 5)) < easy
        ours.append(matched_sets([(success[:, 0], success[:, 1:])]) <= 0.05)
        naive.append(mcnemar_exact(np.repeat(success[:, 0], 4), success[:, 1:].ravel()) <= 0.05)
    assert np.mean(ours) <= 0.07
    assert np.mean(naive) > 0.12
