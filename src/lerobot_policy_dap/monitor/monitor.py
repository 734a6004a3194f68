"""The monitor beside a checkpoint: a score, the calibration that makes it a p-value, and each client's episode.

CHECKPOINT/monitor.json           what it is and of which weights
CHECKPOINT/monitor.safetensors    the score's arrays, and the calibration episodes' scores
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ..errors import UserError
from ..files import read_json, replacing_file, sha256, write_json
from .conformal import check_rate, chunk_p_values, p_values
from .scores import SCORES, Plan, Score, ScoreName, Silent, as_number, episode_scores, residual
from .signals import Signal, Signals, has_context, has_dynamics, read_signals

FORMAT = 1
SETTINGS_FILE, ARRAYS_FILE = "monitor.json", "monitor.safetensors"
_WEIGHTS_FILE = "model.safetensors"


class Verdict(NamedTuple):
    """What a monitor says of B observations at which chunks were planned."""

    score: NDArray[np.float64]
    """`[B]`: of this chunk, higher is stranger; NaN where it cannot know yet."""
    chunk_p_value: NDArray[np.float64]
    """`[B]`: the share of clean chunks that are as strange as this one; NaN with the score."""
    p_value: NDArray[np.float64]
    """`[B]`: the share of clean episodes that become as strange as this one has been so far. Falls or stays while an
    episode goes on; NaN before the first score."""
    alarm: NDArray[np.bool_]
    """`[B]`: whether `p_value` is at most the false-alarm rate; stays until the episode is reset."""
    outcome_distance: NDArray[np.float64]
    """`[B]`: root mean square of what is seen less what was expected, in standard deviations of the outcome; NaN where
    nothing was expected, or nobody asked (`Monitor.telling_distance`)."""


@dataclass
class _Episode:
    """What is remembered of one client's episode."""

    step: int = -1
    plans: list[Plan] = field(default_factory=list)
    highest: float = math.nan


class Monitor:
    """Scores every chunk of any number of episodes side by side.

    Args:
        score: fitted.
        calibration: for each successful clean episode the score of every chunk, NaN where there was none.
        false_alarm: share of clean episodes that may raise an alarm.
        settings: what else monitor.json says.
    """

    def __init__(
        self,
        score: Score | Silent,
        calibration: Sequence[NDArray[np.float64]],
        false_alarm: float,
        settings: dict[str, Any] | None = None,
    ) -> None:
        told = [episode for episode in calibration if not np.isnan(episode).all()]
        if not isinstance(score, Silent):
            check_rate(false_alarm, len(told))
        self.score, self.false_alarm, self.settings = score, false_alarm, settings or {}
        self.calibration = told
        self._maxima = np.array([np.nanmax(episode) for episode in told])
        self._episodes: dict[Hashable, _Episode] = {}
        self._offsets: tuple[int, ...] = ()

    def telling_distance(self, policy: Any) -> Monitor:
        """Itself, from now on telling `outcome_distance` too, whatever its score, where the policy has dynamics."""
        self._offsets = tuple(policy.config.outcome_offsets) if has_dynamics(policy) else ()
        return self

    @classmethod
    def uncalibrated(cls, policy: Any) -> Monitor | None:
        """What tells `outcome_distance` of a policy with dynamics and nothing else; None for any other policy."""
        if not has_dynamics(policy):
            return None
        settings = {"n_action_steps": policy.config.n_action_steps}
        return cls(Silent(), [], 0.0, settings).telling_distance(policy)

    @classmethod
    def calibrated(
        cls, score: Score, episodes: Sequence[Sequence[Plan]], false_alarm: float, settings: dict[str, Any]
    ) -> Monitor:
        """The monitor of successful clean episodes, none of which the score was fitted to.

        Raises:
            UserError: there are too few for the rate, or the score is the same all the time.
        """
        scores = [episode_scores(score, episode) for episode in episodes]
        told = np.concatenate([*scores, np.empty(0)])
        if len(told) and np.nanmin(told) == np.nanmax(told):
            raise UserError(
                f"the score {score.name} is {np.nanmin(told):.3g} in every chunk of every episode, so that it tells "
                "nothing apart (a policy that plans alike each time has no spread): take another --score"
            )
        return cls(score, scores, false_alarm, settings)

    @property
    def threshold(self) -> float:
        """Scores above it raise an alarm: the least that the false-alarm rate allows."""
        allowed = math.floor(self.false_alarm * (len(self._maxima) + 1) + 1e-9)
        return float(np.sort(self._maxima)[-allowed])

    def reset(self, key: Hashable | None = None) -> None:
        """Begins a new episode of one client, or forgets all of them."""
        if key is None:
            self._episodes.clear()
        else:
            self._episodes.pop(key, None)

    def look(
        self,
        policy: Any,
        batch: dict[str, Any],
        chunk: Tensor | None,
        keys: Sequence[Hashable] | None = None,
        steps: Sequence[int | None] | None = None,
    ) -> Verdict:
        """Reads what the score needs from the policy, and observes it; see `read_signals` and `observe`."""
        needs = self.score.needs | {Signal.OUTCOME} if self._offsets else self.score.needs
        return self.observe(read_signals(policy, batch, chunk, needs), keys, steps)

    def observe(
        self, signals: Signals, keys: Sequence[Hashable] | None = None, steps: Sequence[int | None] | None = None
    ) -> Verdict:
        """What there is to say of B moments at which chunks were planned.

        Args:
            keys: whose episode each row belongs to; the row's place if None.
            steps: control steps since the episode began; where None, `n_action_steps` after the last look.
        """
        scores, highest, distances = [], [], []
        for i, row in enumerate(signals.rows()):
            episode = self._episodes.setdefault(i if keys is None else keys[i], _Episode())
            step = None if steps is None else steps[i]
            episode.step = self._next(episode) if step is None else int(step)
            reach = episode.step - max(self.score.memory, *self._offsets, 0)
            episode.plans = [plan for plan in episode.plans if reach <= plan.step < episode.step]
            episode.plans.append(Plan(episode.step, row))
            distances.append(self._distance(episode.plans))
            scores.append(as_number(self.score(episode.plans)))
            episode.highest = float(np.fmax(episode.highest, scores[-1]))
            highest.append(episode.highest)
        p_value = p_values(self._maxima, highest)
        alarm = p_value <= self.false_alarm + 1e-12
        chunk_p_value = chunk_p_values(self.calibration, scores)
        return Verdict(np.array(scores), chunk_p_value, p_value, alarm, np.array(distances))

    def _distance(self, plans: Sequence[Plan]) -> float:
        found = residual(plans, self._offsets) if self._offsets else None
        return math.nan if found is None else float(np.sqrt(np.square(found.value).mean()))

    def _next(self, episode: _Episode) -> int:
        return episode.step + int(self.settings["n_action_steps"]) if episode.plans else 0

    def describe(self) -> dict[str, Any] | None:
        """For a server's metadata and a report; None where nothing was calibrated."""
        if isinstance(self.score, Silent):
            return None
        return {
            "score": str(self.score.name),
            "false_alarm": self.false_alarm,
            "episodes": len(self.calibration),
            "threshold": self.threshold,
        }

    # Files

    def save(self, folder: Path) -> None:
        """Writes both files beside the weights in `folder`; the settings last: they vouch for the arrays."""
        lengths = [len(episode) for episode in self.calibration]
        arrays: dict[str, NDArray[Any]] = {f"score.{name}": value for name, value in self.score.arrays().items()}
        arrays["calibration.scores"] = np.concatenate(self.calibration)
        arrays["calibration.lengths"] = np.array(lengths, np.int64)
        with replacing_file(folder / ARRAYS_FILE) as part:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, part)
        write_json(
            folder / SETTINGS_FILE,
            {
                "format": FORMAT,
                **(self.describe() or {}),
                **self.settings,
                "weights": sha256(folder / _WEIGHTS_FILE),
                "arrays": sha256(folder / ARRAYS_FILE),
            },
        )

    @classmethod
    def load(cls, folder: Path | None) -> Monitor:
        """The monitor of the checkpoint in `folder`; None is a policy that came from none.

        Raises:
            UserError: there is none, it is damaged, or it was calibrated for other weights.
        """
        if folder is None:
            raise UserError("policy.monitor is true, but this policy was not loaded from a checkpoint")
        if not (folder / SETTINGS_FILE).exists():
            raise UserError(f"{folder} has no monitor; `dap calibrate {folder}` makes one")
        settings = read_json(folder / SETTINGS_FILE)
        again = f"run `dap calibrate {folder}` again"
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise UserError(f"{folder / SETTINGS_FILE} is no monitor that this version reads; {again}")
        if settings["weights"] != sha256(folder / _WEIGHTS_FILE):
            raise UserError(
                f"{folder / SETTINGS_FILE} was calibrated for other weights than lie beside it; {again}"
            )
        arrays = folder / ARRAYS_FILE
        if not arrays.exists() or settings["arrays"] != sha256(arrays):
            raise UserError(f"{arrays} is missing or not what {SETTINGS_FILE} was written with; {again}")
        found = load_file(arrays)
        kind = SCORES[ScoreName(settings["score"])]
        score = kind.of(
            {name.removeprefix("score."): value for name, value in found.items() if name.startswith("score.")}
        )
        ends = np.cumsum(found["calibration.lengths"])[:-1]
        told = {"format", "score", "false_alarm", "episodes", "threshold", "weights", "arrays"}
        rest = {name: value for name, value in settings.items() if name not in told}
        return cls(score, np.split(found["calibration.scores"], ends), settings["false_alarm"], rest)


def find_monitor(folder: Path) -> Monitor | None:
    """The checkpoint's monitor; None where it was never calibrated. Raises `UserError` as `Monitor.load`."""
    return Monitor.load(folder) if (folder / SETTINGS_FILE).exists() else None


def scores_of(policy: Any) -> tuple[ScoreName, ...]:
    """The scores that a policy allows for: policies other than DAP tell only what they plan."""
    if not has_context(policy):
        return (ScoreName.SPREAD,)
    learned = (ScoreName.DYNAMICS,) if has_dynamics(policy) else ()
    return (*learned, ScoreName.KNN, ScoreName.MAHALANOBIS, ScoreName.SPREAD)


def default_score(policy: Any) -> ScoreName:
    """What `auto` means: the score that noticed most in our benchmark (benchmarks/NOTES.md)."""
    return ScoreName.KNN if has_context(policy) else ScoreName.SPREAD
