"""What a server remembers of one connection: history, time stamps, pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Request
from .refusals import Reason, Refused


class Session:
    """One client's side.

    Args:
        n_obs_steps: observations that the policy looks at.
        max_age: seconds that an observation may be older than the freshest way here allows; 0 for any age.
        max_rate: requests a second, in the long run; twice as many at once, and one at least.
    """

    def __init__(self, n_obs_steps: int, max_age: float, max_rate: float) -> None:
        self._n_obs_steps, self._max_age, self._max_rate = n_obs_steps, max_age, max_rate
        self._most_tokens = max(1.0, 2 * max_rate)  # below one no request would ever pass
        self._tokens, self._counted = self._most_tokens, time.monotonic()
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self.episode: Hashable = object()  # a name that nobody else has
        self._seen: deque[dict[str, NDArray[Any]]] = deque(maxlen=self._n_obs_steps)
        self._last_stamp = float("-inf")
        self._least_offset = float("inf")

    def count(self) -> None:
        """Counts one message against the rate; raises `Refused` when there were too many."""
        now = time.monotonic()
        self._tokens = min(self._most_tokens, self._tokens + (now - self._counted) * self._max_rate)
        self._counted = now
        if self._tokens < 1:
            raise Refused(Reason.RATE_LIMITED, f"more than {self._max_rate:g} requests a second; ask less often")
        self._tokens -= 1

    def accept(self, request: Request) -> Request:
        """The request with its history; raises `Refused` when its observation is stale."""
        if request.reset or request.episode not in (None, self.episode):
            self.reset()
        if request.episode is not None:  # a name that outlives the connection
            self.episode = request.episode
        if request.timestamp is not None:
            self._check_stamp(request.timestamp)
        return self._with_history(request._replace(episode=self.episode))

    def _check_stamp(self, stamp: float) -> None:
        if stamp <= self._last_stamp:
            raise Refused(
                Reason.STALE_OBSERVATION,
                f"timestamp {stamp:.6f} is not after the last one, {self._last_stamp:.6f}; send each observation once, "
                "and reset=True when an episode begins",
            )
        # The clocks need not agree: the quickest message so far tells what lies between them.
        offset = time.monotonic() - stamp
        self._least_offset = min(self._least_offset, offset)
        age = offset - self._least_offset
        if self._max_age and age > self._max_age:
            raise Refused(
                Reason.STALE_OBSERVATION,
                f"timestamp: the observation is {age:.2f} s older than the quickest was on arrival; at most "
                f"{self._max_age:g} s are allowed",
            )
        self._last_stamp = stamp

    def _with_history(self, request: Request) -> Request:
        """Stacks what this client showed; LeRobot's rule: the first observation fills the whole history."""
        if self._n_obs_steps == 1:
            return request
        if len(next(iter(request.frames.values()))) == self._n_obs_steps:  # the client keeps the history itself
            return request
        dtypes = {key: (frame.dtype, frame.shape) for key, frame in request.frames.items()}
        if self._seen and dtypes != {key: (frame.dtype, frame.shape) for key, frame in self._seen[-1].items()}:
            self._seen.clear()  # another kind of image than before: nothing to stack it with
        self._seen.append(request.frames)
        while len(self._seen) < self._n_obs_steps:
            self._seen.append(request.frames)
        stacked = {key: np.concatenate([frames[key] for frames in self._seen]) for key in request.frames}
        return request._replace(frames=stacked)
