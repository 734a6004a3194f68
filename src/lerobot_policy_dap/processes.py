"""Independent pieces of work over processes, each result handed over as it comes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from .errors import UserError


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def default_device() -> str:
    """torch's name of a GPU if there is one, of the CPU otherwise."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def each[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int = 1
) -> Iterator[tuple[Item, Result]]:
    """Yields `(item, work(item))` as the results come, with at most `workers` items taken ahead.

    `items` may be endless. Processes compute with `threads` threads each, and end when this process does,
    however it ends. An error of `work` is raised here.

    Raises:
        UserError: a process died.
    """
    iterator = iter(items)
    with ProcessPoolExecutor(
        workers,
        mp_context=_context(),
        initializer=_start,
        initargs=(threads,),
    ) as pool:
        pending: dict[Future[Result], Item] = {}
        try:
            while True:
                while len(pending) < workers and (item := next(iterator, None)) is not None:
                    pending[pool.submit(work, item)] = item
                if not pending:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    item = pending.pop(future)
                    yield item, future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died (out of memory, or killed); what is finished is kept: run the command again"
            ) from error
        except BaseException:
            for process in (pool._processes or {}).values():  # what they have not handed over is repeated
                process.kill()
            raise


@cache
def _context() -> Any:
    """Processes fork from a server that holds the slow imports and nothing else: no GL context, no threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lerobot_policy_dap.bench.policies", "lerobot_policy_dap.train.command"])
    return context


def _start(threads: int) -> None:
    import torch

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # dark images make denormal numbers, on which a CPU is several times slower


def _end_with(parent: int) -> None:
    """A killed parent cannot say goodbye, and two runs must not write the same files.

    The parent is the fork server, which ends when the process that started it is gone.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
