"""Means over training seeds and initial states, with intervals that hold the luck of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .statistics import Interval

Array = NDArray[np.float64]
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class HierarchicalMean(Interval):
    """A mean with its interval, and where its uncertainty comes from.

    Attributes:
        training: variance of the mean that only more training seeds can lessen; 0 with one training seed, where
            it is unknown and not part of the interval.
        episodes: variance of the mean that more episodes lessen.
    """

    training: float
    episodes: float


def hierarchical_mean(
    strata: Sequence[ArrayLike], confidence: float = 0.95, *, bounds: tuple[float, float] = (0.0, 1.0)
) -> HierarchicalMean:
    """Mean of the strata's means, with a hierarchical bootstrap: training seeds, and episodes within each stratum.

    A stratum is a task. Its value `[r, s]` belongs to training seed r and to the initial state of seed s, which is
    the same for all training seeds; whatever is paired or averaged (clean minus shifted, one policy minus another,
    several severities) has been so within the value, so pairs and cells of one state stay together. Tasks are not
    resampled: the mean is over these tasks.

    Each of 10,000 resamples (always by the same random numbers) draws training seeds, and states anew in every
    stratum but alike for all training seeds: drawn apart for each, one difficult state would count as R
    independent ones. Resampled means vary too much (the noise of single episodes is in both draws), and with few
    training seeds too little; so their deviations are scaled to the variance of two-way clustering,

        V = V_training + V_states - V_noise,    at least the greater of the first two,

    and from the normal to Student's t with Satterthwaite's degrees of freedom. With one training seed, V_states
    alone is left. Values without any variation would give no width; then at most a share u = z² / (n + z²) of the
    n states (Wilson's limit for none of n) may lie elsewhere within `bounds`.

    Source: Owen, "The pigeonhole bootstrap" (Annals of Applied Statistics 2007), for resampling both sides of a
    crossed table; Cameron, Gelbach and Miller, "Robust inference with multiway clustering" (JBES 2011), for V;
    Hesterberg, "What teachers should know about the bootstrap" (The American Statistician 2015), for t.

    Args:
        strata: one or more `[training seeds, states]`, with the same training seeds in each and at least two
            states.
        bounds: the least and the greatest value there can be.

    Raises:
        ValueError: no stratum, fewer than two states in one, or another number of training seeds.
    """
    tables = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    if not tables or any(t.ndim != 2 or t.shape[0] != tables[0].shape[0] or t.shape[1] < 2 for t in tables):
        raise ValueError(
            "need strata [training seeds, states] of at least two states and equal training seeds, got "
            f"{[t.shape for t in tables]}"
        )
    runs, weight = tables[0].shape[0], 1 / len(tables)
    rows = weight * np.sum([table.mean(axis=1) for table in tables], axis=0)
    estimate = float(rows.mean())

    training = float(rows.var(ddof=1)) / runs if runs > 1 else 0.0
    columns = [table.mean(axis=0) for table in tables]
    by_stratum = np.array([weight**2 * column.var(ddof=1) / len(column) for column in columns])
    states = float(by_stratum.sum())
    noise = sum(weight**2 * _residual(table) / table.size for table in tables)
    variance = max(training + states - noise, training, states)
    if variance < 1e-12:
        return _without_variation(estimate, sum(table.shape[1] for table in tables), confidence, bounds)
    squares = float((by_stratum**2 / [len(column) - 1 for column in columns]).sum())
    squares += training**2 / (runs - 1) if runs > 1 else 0.0
    freedom = (training + states) ** 2 / squares

    deviations = _resampled(rows, -1)
    for i, column in enumerate(columns):
        deviations = deviations + weight * _resampled(column, i)
    tail = (1 - confidence) / 2
    scale = math.sqrt(variance) / float(deviations.std()) * stats.t.isf(tail, freedom) / stats.norm.isf(tail)
    low, high = estimate + scale * np.quantile(deviations, [tail, 1 - tail])
    least, greatest = bounds
    return HierarchicalMean(
        estimate,
        max(min(float(low), estimate), least),
        min(max(float(high), estimate), greatest),
        training=max(training - noise, 0.0),
        episodes=max(variance - max(training - noise, 0.0), 0.0),
    )


def more_to_settle(
    mean: HierarchicalMean, states: int, training_seeds: int, confidence: float = 0.95, power: float = 0.8
) -> tuple[int | None, int | None]:
    """Roughly what would establish a mean as large as the one seen: (states, training seeds), one of them None.

    The variance must shrink to (d / (z_{1-α/2} + z_power))². Episodes lessen only their own part of it; where the
    part of training is too large by itself, training seeds are what is missing. (None, None) when the mean is zero.
    It takes the estimates for the truth, so it is an order of magnitude for planning.

    Args:
        states: initial states of the mean, in each of its cells.
        training_seeds: of the mean.
    """
    if abs(mean.estimate) < 1e-12:
        return None, None
    allowed = (mean.estimate / (stats.norm.isf((1 - confidence) / 2) + stats.norm.ppf(power))) ** 2
    if mean.training < allowed:
        return math.ceil(states * mean.episodes / (allowed - mean.training)), None
    return None, math.ceil(training_seeds * (mean.training + mean.episodes) / allowed)


def _residual(table: Array) -> float:
    """Mean square of what row and column means leave of the table; 0 with a single row."""
    runs, states = table.shape
    if runs == 1:
        return 0.0
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    return float((left**2).sum()) / ((runs - 1) * (states - 1))


def _resampled(values: Array, stratum: int) -> Array:
    """Deviations of the mean in every resample. Strata draw from one set of resamples, each in its own order."""
    deviations: Array = _weights(len(values)) @ (values - values.mean())
    return deviations if stratum < 0 else deviations[_order(stratum)]


@cache
def _weights(n: int) -> Array:
    """How often each of n units is drawn, as a share, `[resamples, n]`."""
    return np.random.default_rng([0, n]).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


@cache
def _order(stratum: int) -> NDArray[np.int64]:
    return np.random.default_rng([1, stratum]).permutation(RESAMPLES)


def _without_variation(
    estimate: float, states: int, confidence: float, bounds: tuple[float, float]
) -> HierarchicalMean:
    z = stats.norm.isf((1 - confidence) / 2)
    share = float(z**2 / (states + z**2))
    least, greatest = bounds
    return HierarchicalMean(
        estimate,
        estimate - share * (estimate - least),
        estimate + share * (greatest - estimate),
        training=0.0,
        episodes=0.0,
    )
