"""Statistics of paired success or failure: pure functions on arrays, each with the source of its formula.

Proportions and differences are fractions in [0, 1] and [-1, 1], not percentages. `a` and `b` are success
vectors over the *same* seeds in the same order: entry i of each comes from one initial state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with the limits of its two-sided confidence interval."""

    estimate: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether all values in the interval have one sign."""
        return bool(self.low > 0 or self.high < 0)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of one proportion.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 1927).

    Raises:
        ValueError: `n` is not positive, or `successes` is not between 0 and `n`.
    """
    limits = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(successes / n, float(limits.low), float(limits.high))


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """p_a - p_b over the same seeds: the hybrid score interval with continuity-corrected correlation.

    With the table e (both succeed), f (only a), g (only b), h (neither), n = e + f + g + h, the Wilson limits
    [l, u] of each margin are joined by squaring and adding, with the correlation φ of the pairs:

        low  = d - sqrt((p_a - l_a)² - 2φ(p_a - l_a)(u_b - p_b) + (u_b - p_b)²)
        high = d + sqrt((u_a - p_a)² - 2φ(u_a - p_a)(p_b - l_b) + (p_b - l_b)²)

    The correction of φ keeps the width above zero when no pair is discordant, where Wald's interval vanishes.

    Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data" (Statistics in Medicine 1998, 17:2635-2650), method 10.

    Args:
        a, b: bool `[n]`, n > 0.

    Raises:
        ValueError: the vectors are empty or differ in length.
    """
    e, f, g, h = _paired_table(a, b)
    n = e + f + g + h
    one, two = wilson(e + f, n, confidence), wilson(e + g, n, confidence)
    phi = _corrected_phi(e, f, g, h)
    low = _joined(one.estimate - one.low, two.high - two.estimate, phi)
    high = _joined(one.high - one.estimate, two.estimate - two.low, phi)
    difference = (f - g) / n
    return Interval(difference, max(difference - low, -1.0), min(difference + high, 1.0))


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p that a and b succeed equally often: the sign test on the discordant pairs; 1 without any.

    Source: McNemar (Psychometrika 1947), with the exact binomial distribution in place of chi-squared.

    Args:
        a, b: bool `[n]`, n > 0.
    """
    _, only_a, only_b, _ = _paired_table(a, b)
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(pvalues: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p values adjusted for their number, in the order given: sorted, max over j <= i of (m - j)·p_j, at most 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (Scand. J. Statistics 1979).

    Args:
        pvalues: `[m]`, each in [0, 1]; m may be 0.
    """
    p = np.asarray(pvalues, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def episodes_to_settle(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """Roughly how many paired episodes McNemar's test needs to establish a difference as large as the one seen.

        n = (z_{1-α/2}·sqrt(ψ) + z_power·sqrt(ψ - d²))² / d²

    with ψ the share of discordant pairs and d the difference. It takes the estimates for the truth, so it is an
    order of magnitude for planning and not a promise. None when the difference is zero.

    Source: Connor, "Sample size for testing differences in proportions for the paired-sample design"
    (Biometrics 1987, 43:207-211), after Miettinen (Biometrics 1968).

    Args:
        a, b: bool `[n]`, n > 0.
    """
    e, f, g, h = _paired_table(a, b)
    if f == g:
        return None
    n = e + f + g + h
    discordant, difference = (f + g) / n, (f - g) / n
    root = stats.norm.isf((1 - confidence) / 2) * math.sqrt(discordant)
    root += stats.norm.ppf(power) * math.sqrt(max(discordant - difference**2, 0.0))
    return math.ceil(root**2 / difference**2)


def _paired_table(a: ArrayLike, b: ArrayLike) -> tuple[int, int, int, int]:
    """Counts e (both), f (only a), g (only b), h (neither)."""
    one, two = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if one.ndim != 1 or one.shape != two.shape or not len(one):
        raise ValueError(
            f"need two vectors of equal length with at least one pair, got {one.shape} and {two.shape}"
        )
    both, only_a, only_b = int((one & two).sum()), int((one & ~two).sum()), int((~one & two).sum())
    return both, only_a, only_b, len(one) - both - only_a - only_b


def _corrected_phi(e: int, f: int, g: int, h: int) -> float:
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    if margins == 0:
        return 0.0
    covariance: float = e * h - f * g
    if covariance > 0:
        covariance = max(covariance - (e + f + g + h) / 2, 0.0)
    return covariance / math.sqrt(margins)


def _joined(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))
