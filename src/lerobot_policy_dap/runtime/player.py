"""Plays chunks at the control rate while the next one is being asked for."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .refusals import AFTER_A_LOOK, Reason, Refused

Action = NDArray[np.float32]


class Policy(Protocol):
    """What the player asks: our client, or openpi's."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """A chunk for an observation."""
        ...

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server says of its policy."""
        ...


class Command(NamedTuple):
    """What the robot is to do now."""

    action: Action
    """`[A]`, robot units."""
    held: bool
    """Whether this is no plan, but what `hold` makes of the last command: no chunk is there in time."""
    chunk_id: str | None
    """The chunk it comes from."""
    place: int
    """Its place in that chunk, from 0."""
    alarm: bool = False
    """Whether the server's monitor has raised an alarm in this episode."""


def half_speed(last: Action, action: Action) -> tuple[Action, Action]:
    """Two commands in place of one, for actions that are positions: half of the way, then the rest."""
    return ((last + action) / 2).astype(np.float32), action


class ChunkPlayer:
    """One action a control step, from chunks that are asked for ahead of need.

    `act` never waits, except for the very first chunk: before it the robot has been told nothing. A new chunk is
    asked for so early that, at the latency seen so far, it arrives when `execute` actions of the present one are
    played; the present one plays on while it is late, and when it ends the player holds. The new chunk starts at the
    place after as many actions as were played since its observation; steps held meanwhile do not count, since the
    robot stood still. Across the seam no number changes by more than the server allows in a step.

    Args:
        policy: who is asked, in a thread of the player's own.
        period: seconds of a control step.
        execute: actions of a chunk to play before it is replaced; the policy's own number if not given.
        hold: makes a safe command of the last one. The default repeats it: right where actions are positions. Where
            they are velocities or differences, give one that stands still.
        slow: makes two commands of one, given the last command: what an alarm does where the server says `slow`. The
            default is right for positions; for velocities and differences give both half of the action.
        alarmed: called with the answer's `monitor` when an episode's alarm begins, in the thread of `act`. Where the
            server says `stop` there is no answer, and the numbers are None.
    """

    def __init__(
        self,
        policy: Policy,
        period: float,
        execute: int | None = None,
        hold: Callable[[Action], Action] = lambda last: last,
        slow: Callable[[Action, Action], tuple[Action, Action]] = half_speed,
        alarmed: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        metadata = policy.get_server_metadata()
        self._policy, self._period, self._hold = policy, period, hold
        self._slow, self._alarmed = slow, alarmed
        self._execute = execute or int(metadata.get("n_action_steps", 1))
        self._features = set(metadata.get("observation", {}))
        self._most_change = metadata.get("action", {}).get("max_change")
        self._history: deque[dict[str, Any]] = deque(maxlen=int(metadata.get("n_obs_steps", 1)))
        self._asker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chunk player")
        self._step = 0
        self._plan: dict[str, Any] | None = None
        self._place = 0  # of the next action in the plan
        self._asked: Future[dict[str, Any]] | None = None
        self._asked_step = 0
        self._played_since = 0
        self._played = 0  # actions of chunks in this episode
        self._delays: deque[int] = deque([1], maxlen=10)
        self._last: Action | None = None
        self._episode_begins = True
        self._monitor: dict[str, Any] = {}  # what the last answer said of the episode
        self._second_half: Action | None = None  # of an action that is played at half speed
        self.held_steps = 0
        """Control steps without a plan."""
        self.trouble: BaseException | None = None
        """Why the last request failed; None after one that did not."""

    @property
    def delay(self) -> int:
        """Control steps that the next answer is expected to take: the longest of the last ten."""
        return max(self._delays)

    def act(self, observation: Mapping[str, Any]) -> Command:
        """The command for this control step; call it once a step, with what the robot sees now.

        Raises:
            Exception: the policy's own, such as `ServerUnavailable`: there is no first chunk, and so nothing to hold.
        """
        observation = self._with_history(observation)
        self._collect()
        if self._asked is None and self._place + self.delay >= min(self._execute, self._place + len(self._left())):
            self._ask(observation)
        if self._last is None:
            self._wait_for_the_first()
        command = self._command()
        self._last = command.action
        self._step += 1
        return command

    def reset(self) -> None:
        """An episode begins: forgets plan, history and last command."""
        if self._asked is not None:
            self._asked.exception()  # waits: a client takes one request at a time
        self._plan = self._asked = self._last = self._second_half = None
        self._place = self._played = 0
        self._monitor = {}
        self._history.clear()
        self._episode_begins = True

    def close(self) -> None:
        """Ends the asking thread; the policy stays open."""
        self._asker.shutdown(cancel_futures=True)

    def _command(self) -> Command:
        left = self._left()
        alarm = bool(self._monitor.get("alarm"))
        reaction = self._monitor.get("on_alarm") if alarm else None
        if self._plan is None or not len(left) or reaction == "hold":
            # Without a last command nothing has moved yet, and the first one is asked to stand still from there.
            last = left[0] if self._last is None else self._last
            self.held_steps += 1
            return Command(self._hold(last), True, None, 0, alarm)
        chunk_id, place, action = self._plan.get("chunk_id"), self._place, left[0]
        if self._last is not None and self._most_change is not None:
            # The server bounds changes within a chunk; when it arrives, and so where it begins, only we know.
            action = np.clip(action, self._last - self._most_change, self._last + self._most_change)
        if reaction == "slow" and self._second_half is None:
            action, self._second_half = self._slow(action if self._last is None else self._last, action)
            return Command(action, False, chunk_id, place, alarm)
        if self._second_half is not None:
            action, self._second_half = self._second_half, None
        self._place += 1
        self._played_since += 1
        self._played += 1
        return Command(action, False, chunk_id, place, alarm)

    def _left(self) -> NDArray[np.float32]:
        """What is still to play, `[k, A]`."""
        actions: NDArray[np.float32] = (
            self._plan["actions"] if self._plan is not None else np.empty((0, 0), np.float32)
        )
        return actions[self._place :]

    def _ask(self, observation: dict[str, Any]) -> None:
        request = {**observation, "timestamp": time.monotonic(), "step": self._played}
        if self._last is not None:
            request["last_action"] = self._last
        if len(left := self._left()):
            request |= {"prev_chunk_left_over": left, "inference_delay": self.delay}
        if self._episode_begins:
            request["reset"] = True
        self._asked = self._asker.submit(self._policy.infer, request)
        self._asked_step, self._played_since = self._step, 0

    def _collect(self) -> None:
        """Takes the answer to the request under way, if it is there."""
        if self._asked is None or not self._asked.done():
            return
        asked, self._asked = self._asked, None
        self.trouble = asked.exception()  # of whatever class: a robot must be told something every step
        if self.trouble is None:
            self._take(asked.result(), self._played_since)
            self._delays.append(max(1, self._step - self._asked_step))
        else:
            self._take_refusal(self.trouble)

    def _take(self, answer: dict[str, Any], place: int) -> None:
        """Plays this answer from now on, from that place."""
        self._plan, self._place, self._second_half = answer, place, None
        self._episode_begins = False
        self._hear(answer.get("monitor") or {})

    def _take_refusal(self, error: BaseException) -> None:
        reason = _reason(error)
        if reason in AFTER_A_LOOK:
            self._episode_begins = False
        if reason is Reason.ALARM:
            self._hear({**_UNTOLD, "alarm": True, "on_alarm": "stop"})

    def _hear(self, monitor: dict[str, Any]) -> None:
        """What the server's monitor says; an alarm stays on until the episode is reset, whatever the server forgets."""
        before, self._monitor = self._monitor, monitor
        if before.get("alarm"):
            self._monitor = {**monitor, "alarm": True, "on_alarm": before.get("on_alarm")}
        elif self._alarmed is not None and monitor.get("alarm"):
            self._alarmed(monitor)

    def _wait_for_the_first(self) -> None:
        assert self._asked is not None
        asked, self._asked = self._asked, None
        if (error := asked.exception()) is not None:
            self._take_refusal(error)
        self._take(asked.result(), 0)
        self.trouble = None
        assert self._plan is not None
        milliseconds = float(self._plan.get("server_timing", {}).get("total_ms", 0))
        self._delays.append(max(1, math.ceil(milliseconds / 1000 / self._period)))

    def _with_history(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the last `n_obs_steps` observations, stacked, a control step apart as in training.

        Cameras write their next frame where the last one lies, and the asking thread reads later.
        """
        now = copy.deepcopy(dict(observation))
        steps = self._history.maxlen or 1
        if steps == 1:
            return now
        seen = {key: value for key, value in now.items() if key in self._features}
        self._history.append(seen)
        past = [self._history[0]] * (steps - len(self._history)) + list(self._history)
        return {**now, **{key: np.stack([frame[key] for frame in past]) for key in seen}}


_UNTOLD = dict.fromkeys(("score", "chunk_p_value", "p_value", "outcome_distance")) | {"first": True}


def _reason(error: BaseException) -> Reason | None:
    """Why the server refused; openpi's client raises its words behind a line of its own."""
    if isinstance(error, Refused):
        return error.reason
    return Refused.parse(str(error).partition("\n")[2]).reason if isinstance(error, RuntimeError) else None
