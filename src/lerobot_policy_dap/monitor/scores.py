"""How strange what happens is: one number a chunk, higher is stranger, of one idea and the arrays it was fitted to.

A score is asked at the moments at which a chunk is planned, and says None where it cannot know yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .covariance import whitening
from .signals import Signal, Signals

Array = NDArray[np.float32]

NEIGHBOURS = 5


class ScoreName(StrEnum):
    """The names under which scores are asked for and kept."""

    DYNAMICS = "dynamics"
    KNN = "knn"
    MAHALANOBIS = "mahalanobis"
    SPREAD = "spread"


class Plan(NamedTuple):
    """One chunk, when it was planned, and what the policy made of that moment: a row of `Signals`."""

    step: int
    """Control steps since the episode began."""
    signals: Signals


class Score(Protocol):
    """What all scores are."""

    name: ClassVar[ScoreName]
    needs: ClassVar[frozenset[Signal]]

    def __call__(self, plans: Sequence[Plan]) -> float | None:
        """How strange the present moment is.

        Args:
            plans: of one episode, in order; the last is the present one.
        """
        ...

    @property
    def memory(self) -> int:
        """Control steps that it looks back."""
        ...

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What it is kept as, and built from by its class's `of`."""
        ...


@dataclass(frozen=True)
class _Fitted:
    """Scores are kept as the arrays that are their fields."""

    def arrays(self) -> dict[str, Array]:
        """The fields by name."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Self:
        """The score of which `arrays` were kept."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @property
    def memory(self) -> int:
        """Control steps that it looks back."""
        return 0


class Residual(NamedTuple):
    """What is seen, less what was expected."""

    value: Array
    """`[S]`"""
    place: int
    """Of the offset among the policy's, or of the next one after it where the time lies between two."""


def residual(plans: Sequence[Plan], offsets: Sequence[int]) -> Residual | None:
    """How far the present observation is from what the dynamics expected of an earlier chunk; None without one.

    The longest expectation that ends exactly now counts: it has seen most go wrong. Where none does (a robot that asked
    a step early, or an offset that is no multiple of the steps between plans), the last chunk's is taken on the way: in
    a straight line from what was seen when it was planned through the expected outcomes.

    Args:
        plans: of one episode, in order; the last is the present one.
        offsets: the policy's, in control steps.
    """
    now = plans[-1]
    assert now.signals.observed is not None
    past = {plan.step: plan.signals for plan in plans[:-1]}
    for place, offset in reversed(list(enumerate(offsets))):
        if offset > 0 and now.step - offset in past:
            return Residual(now.signals.observed - _expected(past[now.step - offset])[place], place)
    last = max(past, default=None)
    if last is None or now.step - last >= offsets[-1]:
        return None
    before, elapsed = past[last], now.step - last
    assert before.observed is not None
    place = next(place for place, offset in enumerate(offsets) if offset > elapsed)
    start, begin = (offsets[place - 1], _expected(before)[place - 1]) if place else (0, before.observed)
    way = (elapsed - start) / (offsets[place] - start)
    return Residual(now.signals.observed - (1 - way) * begin - way * _expected(before)[place], place)


@dataclass(frozen=True)
class Dynamics(_Fitted):
    """Distance of what is seen from what the dynamics expected of the chunk that led here: `residual`, measured in
    the demonstrations' own residuals (Mahalanobis).

    Args:
        offsets: `[O]`, the policy's, in control steps.
        means: `[O, S]` of the demonstrations' residuals at each offset.
        whiten: `[O, S, S]`.
    """

    name: ClassVar = ScoreName.DYNAMICS
    needs: ClassVar = frozenset({Signal.OUTCOME})

    offsets: Array
    means: Array
    whiten: Array

    @property
    def memory(self) -> int:
        """Control steps that it looks back."""
        return int(self.offsets[-1])

    def __call__(self, plans: Sequence[Plan]) -> float | None:
        found = residual(plans, self.offsets.astype(int).tolist())
        if found is None:
            return None
        return float(np.linalg.norm(self.whiten[found.place] @ (found.value - self.means[found.place])))

    @classmethod
    def fit(cls, episodes: Sequence[Sequence[Plan]], offsets: Sequence[int]) -> Dynamics:
        """The score of demonstrations.

        Args:
            offsets: the policy's.

        Raises:
            UserError: no outcome is expected that could be seen.
        """
        found = [residual(episode[: i + 1], offsets) for episode in episodes for i in range(len(episode))]
        seen = [one for one in found if one is not None]
        if len(seen) < 2:
            raise UserError(
                f"the outcome is expected {' and '.join(map(str, offsets))} steps from now, and no two plans of the "
                "demonstrations lie so close: the dynamics score never sees an outcome; train with other "
                "--policy.outcome_offsets, or take --score knn"
            )
        everything = whitening(np.stack([one.value for one in seen]))
        # Each offset by its own residuals, where demonstrations show enough of them.
        own = [[one.value for one in seen if one.place == place] for place in range(len(offsets))]
        fitted = [whitening(np.stack(values)) if len(values) > 1 else everything for values in own]
        means, whiten = (np.stack(part) for part in zip(*fitted, strict=True))
        return cls(np.asarray(offsets, np.float32), means, whiten)


@dataclass(frozen=True)
class Neighbours(_Fitted):
    """Mean distance of the observation's encoding to the nearest of the demonstrations', in standard deviations.

    Args:
        mean, scale: `[D]` of the demonstrations.
        reference: `[N, D]`, standardised.
    """

    name: ClassVar = ScoreName.KNN
    needs: ClassVar = frozenset({Signal.CONTEXT})

    mean: Array
    scale: Array
    reference: Array

    def __call__(self, plans: Sequence[Plan]) -> float:
        z = (_context(plans[-1].signals) - self.mean) / self.scale
        distances = np.linalg.norm(self.reference - z, axis=1)
        nearest = np.partition(distances, min(NEIGHBOURS, len(distances)) - 1)[:NEIGHBOURS]
        return float(nearest.mean())

    @classmethod
    def fit(cls, episodes: Sequence[Sequence[Plan]]) -> Neighbours:
        """The score of demonstrations."""
        contexts = np.stack([_context(plan.signals) for episode in episodes for plan in episode])
        scale = contexts.std(axis=0)
        # A dimension that hardly varies is no unit to measure in.
        scale = np.maximum(scale, 0.05 * max(float(scale.mean()), 1e-6)).astype(np.float32)
        mean = contexts.mean(axis=0)
        return cls(mean, scale, (contexts - mean) / scale)


@dataclass(frozen=True)
class Mahalanobis(_Fitted):
    """Mahalanobis distance of the observation's encoding from the demonstrations', with a shrunk covariance.

    Args:
        mean: `[D]`
        whiten: `[D, D]`
    """

    name: ClassVar = ScoreName.MAHALANOBIS
    needs: ClassVar = frozenset({Signal.CONTEXT})

    mean: Array
    whiten: Array

    def __call__(self, plans: Sequence[Plan]) -> float:
        return float(np.linalg.norm(self.whiten @ (_context(plans[-1].signals) - self.mean)))

    @classmethod
    def fit(cls, episodes: Sequence[Sequence[Plan]]) -> Mahalanobis:
        """The score of demonstrations."""
        return cls(*whitening(np.stack([_context(plan.signals) for episode in episodes for plan in episode])))


@dataclass(frozen=True)
class Spread(_Fitted):
    """Disagreement among chunks drawn for the same observation; any policy that draws its chunks has one."""

    name: ClassVar = ScoreName.SPREAD
    needs: ClassVar = frozenset({Signal.SPREAD})

    def __call__(self, plans: Sequence[Plan]) -> float:
        spread = plans[-1].signals.spread
        assert spread is not None
        return float(spread)


@dataclass(frozen=True)
class Silent(_Fitted):
    """No score: what watches a policy that nobody has calibrated, for the distance from what was expected alone."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, plans: Sequence[Plan]) -> None:
        return


SCORES: dict[ScoreName, type[Dynamics | Neighbours | Mahalanobis | Spread]] = {
    kind.name: kind for kind in (Dynamics, Neighbours, Mahalanobis, Spread)
}


def fit(name: ScoreName, demonstrations: Sequence[Sequence[Plan]], offsets: Sequence[int]) -> Score:
    """The score of that name, fitted to episodes of demonstrations; the spread needs none.

    Raises:
        UserError: there are no demonstrations, or none that the score can be fitted to.
    """
    if name is ScoreName.SPREAD:
        return Spread()
    if not any(demonstrations):
        raise UserError(f"the score {name} is measured against demonstrations, and there are none")
    match name:
        case ScoreName.DYNAMICS:
            return Dynamics.fit(demonstrations, offsets)
        case ScoreName.KNN:
            return Neighbours.fit(demonstrations)
        case ScoreName.MAHALANOBIS:
            return Mahalanobis.fit(demonstrations)


def episode_scores(score: Score, plans: Sequence[Plan]) -> NDArray[np.float64]:
    """The score at each plan of an episode, as it would have been told on the way: see `as_number`."""
    return np.array([as_number(score(plans[: i + 1])) for i in range(len(plans))], np.float64)


def as_number(score: float | None) -> float:
    """NaN where nothing is known; infinity, the strangest of all, where signals were not finite."""
    if score is None:
        return math.nan
    return math.inf if math.isnan(score) else score


def _expected(signals: Signals) -> Array:
    assert signals.expected is not None
    return signals.expected


def _context(signals: Signals) -> Array:
    assert signals.context is not None
    return signals.context
