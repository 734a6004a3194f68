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

from .errors import UserError


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def each[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int = 1
) -> Iterator[tuple[Item, Result]]:
    """Yields `(item, work(item))` as the results come, with at most `workers` items taken ahead.

    `items` may be endless: closing the iterator ends the work. Processes are spawned, not forked (a GL context
    does not survive a fork), compute with `threads` threads each, and end when this process does, however it
    ends. An error of `work` is raised here.

    Raises:
        UserError: a process died.
    """
    iterator = iter(items)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the processes when they start
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(os.getpid(), threads),
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


def _start(parent: int, threads: int) -> None:
    import torch

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # dark images make denormal numbers, on which a CPU is several times slower


def _end_with(parent: int) -> None:
    """A killed parent cannot say goodbye, and two runs must not write the same files."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
