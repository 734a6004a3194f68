"""Split conformal prediction: p-values whose false-alarm rate is exact in finite samples, whatever the score.

Let n + 1 episodes be exchangeable, n of them known. The rank of the last one's score among all is then uniform (ties
only help), so that

    p = (1 + #{i: s_i >= s}) / (n + 1)        satisfies        P(p <= alpha) <= alpha

for every alpha. Nothing is assumed of the score. V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random
World (2005), chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError

Floats = NDArray[np.float64]


def p_values(calibration: ArrayLike, scores: ArrayLike) -> Floats:
    """The p-value of each score, against scores of which each stands for one exchangeable episode.

    Args:
        calibration: `[n]`, higher is stranger.
        scores: of any shape; NaN is "not known" and gives NaN, infinity is stranger than everything.
    """
    known = np.sort(np.asarray(calibration, np.float64))
    asked = np.asarray(scores, np.float64)
    at_least = len(known) - np.searchsorted(known, asked, side="left")
    return np.where(np.isnan(asked), np.nan, (1 + at_least) / (len(known) + 1))


def chunk_p_values(calibration: Sequence[ArrayLike], scores: ArrayLike) -> Floats:
    """The p-value of single chunks, against episodes of several chunks each.

    Chunks of one episode are not exchangeable with those of another, but episodes are, and a chunk drawn from a
    new episode is one drawn from a random episode of n + 1: an episode weighs the same however long it is, and the
    new one counts as if all of it were as strange. After Y. Lee, R. F. Barber, R. Willett, Distribution-free
    inference with hierarchical data (2023).

    Args:
        calibration: for each of n episodes the scores of its chunks, NaN where a chunk has none.
        scores: of any shape, as in `p_values`.
    """
    episodes = [np.asarray(episode, np.float64) for episode in calibration]
    episodes = [episode[~np.isnan(episode)] for episode in episodes]
    lengths = np.array([len(episode) for episode in episodes], np.int64)
    values = np.concatenate([*episodes, np.empty(0)])
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
    order = np.argsort(values)
    # The weight from each place on to the end; nothing beyond it.
    beyond = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    asked = np.asarray(scores, np.float64)
    at_least = beyond[np.searchsorted(values[order], asked, side="left")]
    return np.where(np.isnan(asked), np.nan, (1 + at_least) / (len(episodes) + 1))


def least_episodes(false_alarm: float) -> int:
    """How many calibration episodes it takes for any score to be strange enough."""
    return math.ceil(1 / false_alarm - 1e-9) - 1


def check_rate(false_alarm: float, episodes: int | None = None) -> None:
    """Raises `UserError` unless the rate is a probability that so many episodes can resolve."""
    if not 0 < false_alarm < 1:
        raise UserError(f"the false-alarm rate is {false_alarm}; it must lie between 0 and 1, such as 0.05")
    least = least_episodes(false_alarm)
    if episodes is not None and episodes < least:
        raise UserError(
            f"{episodes} successful episodes cannot tell a false-alarm rate of {false_alarm:g}: it takes at least "
            f"{least}; calibrate on more episodes, or allow more false alarms"
        )
