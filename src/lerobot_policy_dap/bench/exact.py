"""Exact tests on matched sets: what McNemar's test becomes when a pair has several members.

Both condition on how often each set succeeds, and compute the whole null distribution; neither simulates.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


def matched_sets(sets: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Two-sided p that one member of each set (clean) succeeds as often as its k others (shifted).

    If it does, each of the k + 1 outcomes of a set is equally likely to be the clean one, so the clean successes
    are a sum of independent coins, one for each set with its own share of successes. p is twice the smaller
    tail of that Poisson binomial distribution, at most 1. With k = 1 it is the exact McNemar test.

    Source: Miettinen, "Individual matching with multiple controls in the case of all-or-none responses"
    (Biometrics 1969, 25:339-355), with the exact distribution in place of the normal one.

    Args:
        sets: groups of n sets each, as bool `[n]` (clean) and bool `[n, k]` (shifted), k > 0; k may differ
            between groups.
    """
    observed = 0
    shares = []
    for clean, shifted in sets:
        one, others = np.asarray(clean, dtype=bool), np.asarray(shifted, dtype=bool)
        observed += int(one.sum())
        shares.append((one + others.sum(axis=1)) / (1 + others.shape[1]))
    distribution = np.ones(1)
    values, counts = np.unique(np.concatenate(shares), return_counts=True)
    for share, count in zip(values, counts, strict=True):
        distribution = np.convolve(distribution, stats.binom.pmf(np.arange(count + 1), count, share))
    lower, upper = distribution[: observed + 1].sum(), distribution[observed:].sum()
    return min(1.0, 2 * float(min(lower, upper)))


def sign_flips(differences: ArrayLike) -> float:
    """Two-sided p that two policies do equally well: the randomisation test over the signs of whole-number differences.

    If the policies are alike, exchanging them in any one state changes nothing, so every difference is as likely
    to have the other sign. p is the share of all 2^n signings whose sum is at least as far from zero. With
    differences of -1, 0 and 1 it is the exact McNemar test.

    Source: Fisher, "The Design of Experiments" (1935), section 21; Edgington, "Randomization Tests" (1980).

    Args:
        differences: whole numbers `[n]`: for each state, successes of one policy less those of the other, over
            the same cells.
    """
    sizes, counts = np.unique(np.abs(np.asarray(differences, dtype=np.int64)), return_counts=True)
    total = abs(int(np.sum(differences)))
    reach = int((sizes * counts).sum())
    # The distribution of (sum + reach) / 2, a whole number: the sizes that keep their sign.
    distribution = np.zeros(reach + 1)
    distribution[0] = 1
    top = 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if size == 0:
            continue
        shifted = np.zeros_like(distribution)
        for kept, weight in enumerate(stats.binom.pmf(np.arange(count + 1), count, 0.5)):
            start = kept * size
            shifted[start : start + top + 1] += weight * distribution[: top + 1]
        distribution, top = shifted, top + size * count
    # The distribution is symmetric.
    return min(1.0, 2 * float(distribution[(total + reach) // 2 :].sum())) if total else 1.0
