"""Requests of many clients, gathered into calls of one model in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .contract import Request
from .metrics import Metrics
from .model import Planned, ServedModel
from .refusals import Reason, Refused

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What the model said to one request, and how long it took."""

    planned: Planned
    queue_seconds: float
    inference_seconds: float


@dataclass(frozen=True, eq=False)
class _Waiting:
    request: Request
    since: float
    answer: asyncio.Future[Answer]


class Batcher:
    """Calls the model for whoever is waiting, one call at a time.

    While a call runs, requests gather and share the next one. A lone client never waits for company; with more than
    one connected, the first waits up to `window` for the others.

    Args:
        window: seconds.
        deadline: seconds that a request may wait for its turn, and then the model may take. A call that takes longer
            is a stall: whoever waits is refused, `stalled` is True until the call returns, and nothing else is tried.
        clients: how many are connected now.
    """

    def __init__(
        self, model: ServedModel, window: float, deadline: float, metrics: Metrics, clients: Callable[[], int]
    ) -> None:
        self.model = model
        self.window, self.deadline = window, deadline
        self.stalled = False
        self._metrics, self._clients = metrics, clients
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._thread = _Thread()

    async def ask(self, request: Request) -> Answer:
        """The answer to one request.

        Raises:
            Refused: `stalled`, `overloaded`, `model_failed`, or what the limits on actions refused.
        """
        if self.stalled:
            raise self._stall()
        waiting = _Waiting(request, time.monotonic(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            await asyncio.wait([waiting.answer], timeout=self.deadline)
            if waiting in self._waiting and not waiting.answer.done():
                raise Refused(
                    Reason.OVERLOADED, f"no turn within {self.deadline:g} s; ask less often, or serve fewer robots"
                )
            return await waiting.answer
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def run(self) -> None:
        """Serves requests until it is cancelled."""
        while True:
            await self._arrived.wait()
            most = self.model.options.max_batch
            if self.window and len(self._waiting) < min(self._clients(), most):
                await asyncio.sleep(self.window)
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            if not self._waiting:
                self._arrived.clear()
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            if batch:
                await self._call(batch)

    async def _call(self, batch: list[_Waiting]) -> None:
        model, started = self.model, time.monotonic()
        call = self._thread.submit(model.plan, [waiting.request for waiting in batch])
        done, _ = await asyncio.wait([call], timeout=self.deadline)
        if not done:
            self._set_stalled(True)
            log.error("a call of the model has taken %g s; refusing requests until it returns", self.deadline)
            for waiting in [*batch, *self._waiting]:
                if not waiting.answer.done():
                    waiting.answer.set_exception(self._stall())
            await asyncio.wait([call])
            log.warning("the stalled call returned after %.1f s", time.monotonic() - started)
            self._set_stalled(False)
        seconds = time.monotonic() - started
        self._metrics.observe("inference_seconds", seconds)
        self._metrics.observe("batch_size", len(batch))
        error = call.exception()
        if error is not None:
            log.error("the model failed", exc_info=error)
        for i, waiting in enumerate(batch):
            if waiting.answer.done():
                continue
            result = (
                call.result()[i]
                if error is None
                else Refused(
                    Reason.MODEL_FAILED, f"the policy failed ({type(error).__name__}); the server's log says more"
                )
            )
            if isinstance(result, Refused):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(Answer(result, started - waiting.since, seconds))

    def _set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        self._metrics.set("healthy", 0 if stalled else 1)

    def _stall(self) -> Refused:
        return Refused(Reason.STALLED, f"a call of the model has not returned within {self.deadline:g} s")


class _Thread:
    """One daemon thread for blocking calls. An executor's would keep the process alive behind a stalled call."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put((lambda: function(*arguments), future))
        return future

    def _work(self) -> None:
        while True:
            job, future = self._jobs.get()
            result: Any = None
            error: Exception | None = None
            try:
                result = job()
            except Exception as raised:
                error = raised
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, future, result, error)
            del job, future, result, error


def _finish(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
