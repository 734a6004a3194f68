"""Independent pieces of work over processes, each result handed over as it comes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from typing import Any

from .errors import UserError


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def default_device() -> str:
    """torch's name of a GPU if there is one, of the CPU otherwise."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str, here: bool = True) -> None:
    """Raises `UserError` unless `name` is a device of torch's and, if `here`, this machine has it."""
    import torch

    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
    except RuntimeError as error:
        raise UserError(
            f"--device is {name!r}, which torch does not know; give cpu, cuda, cuda:1 or mps"
        ) from error
    if here and not (module.is_available() and (device.index or 0) < module.device_count()):
        raise UserError(f"--device is {name}, and torch finds no such device on this machine; give cpu, or none")


@dataclass(frozen=True)
class Died:
    """What `surviving` yields for an item whose process died each time it was tried."""

    times: int


def each[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int = 1
) -> Iterator[tuple[Item, Result]]:
    """Yields `(item, work(item))` as the results come, with at most `workers` items taken ahead.

    `items` may be endless. Processes compute with `threads` threads each, and end when this process does,
    however it ends. An error of `work` is raised here.

    Raises:
        UserError: a process died.
    """
    for item, result in surviving(work, items, workers, threads, attempts=1):
        if isinstance(result, Died):
            raise UserError(
                "a worker process died (out of memory, or killed); what is finished is kept: run the command again"
            )
        yield item, result


def surviving[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int = 1, attempts: int = 3
) -> Iterator[tuple[Item, Result | Died]]:
    """As `each`, but an item whose process dies is tried again in a fresh one, `attempts` times in all.

    Every process is a pool of its own, so that a death is blamed on the item that the process worked on, and
    disturbs no other. `work` may have run before on an item that comes back: it must be repeatable.
    """
    waiting = iter(items)
    again: deque[Item] = deque()
    deaths: dict[int, int] = {}  # by id of the item, which `running`, `again` or `items` keep alive
    idle: list[ProcessPoolExecutor] = []
    running: dict[Future[Result], tuple[ProcessPoolExecutor, Item]] = {}
    try:
        while True:
            while len(running) < workers:
                item = again.popleft() if again else next(waiting, None)
                if item is None:
                    break
                pool = idle.pop() if idle else _one_process(threads)
                try:
                    future = pool.submit(work, item)
                except BrokenProcessPool:  # it died while it had nothing to do: nobody's fault
                    pool = _one_process(threads)
                    future = pool.submit(work, item)
                running[future] = pool, item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, item = running.pop(future)
                if not isinstance(future.exception(), BrokenProcessPool):
                    idle.append(pool)
                    deaths.pop(id(item), None)
                    yield item, future.result()
                    continue
                pool.shutdown(wait=False)
                deaths[id(item)] = deaths.get(id(item), 0) + 1
                if deaths[id(item)] < attempts:
                    again.append(item)
                else:
                    yield item, Died(deaths.pop(id(item)))
    finally:
        for pool, _ in running.values():  # what they have not handed over is repeated
            for process in (pool._processes or {}).values():
                process.kill()
        for pool in (*idle, *(pool for pool, _ in running.values())):
            pool.shutdown()


def prepare() -> None:
    """Starts the server that workers fork from, so that its imports and this process's run side by side.

    It inherits that Ctrl-C is ignored: interrupted in its imports it would tell of each of them.
    """
    if _context().get_start_method() != "forkserver":
        return
    if threading.current_thread() is not threading.main_thread():  # which alone may say what signals do
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _one_process(threads: int) -> ProcessPoolExecutor:
    prepare()
    return ProcessPoolExecutor(1, mp_context=_context(), initializer=_start, initargs=(threads,))


@cache
def _context() -> Any:
    """Processes fork from a server that holds the slow imports and nothing else: no GL context, no threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    preloaded = ("quiet", "bench.policies", "train.command")
    context.set_forkserver_preload([f"{__package__}.{module}" for module in preloaded])
    return context


def _start(threads: int) -> None:
    threading.Thread(target=_end_with_starter, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    compute_with(threads)


def compute_with(threads: int) -> None:
    """How a worker computes, wherever it runs: the results depend on it in their last bits."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # dark images make denormal numbers, on which a CPU is several times slower


def _end_with_starter() -> None:
    """A killed starter cannot say goodbye, and two runs must not write the same files.

    The fork server, our parent, is no sign of it: it lives as long as any worker does.
    """
    starter = multiprocessing.parent_process()
    assert starter is not None
    starter.join()
    os._exit(1)
