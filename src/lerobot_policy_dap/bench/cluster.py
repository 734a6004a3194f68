"""Independent pieces of work over the nodes of a Ray cluster.

Every node needs this package in the same versions, and the checkpoints under the same paths (a shared file system).
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import UserError
from ..processes import Died, compute_with


def surviving_on_ray[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], address: str, most: int | None = None, attempts: int = 3
) -> Iterator[tuple[Item, Result | Died]]:
    """As `processes.surviving`, on a cluster: one CPU a piece, on whichever node has one free.

    A node that joins later is used from then on; the work of one that is lost is tried again elsewhere.

    Args:
        work: a function that can be imported on every node.
        address: such as `10.0.0.1:6379` or `ray://10.0.0.1:10001`; `auto` for the cluster of this machine.
        most: pieces at once; as many as the cluster has CPUs if not given.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        yield from _carry_out(ray, work, items, most, attempts)
    finally:
        if ours:
            ray.shutdown()


def _carry_out[Item, Result](
    ray: Any, work: Callable[[Item], Result], items: Iterable[Item], most: int | None, attempts: int
) -> Iterator[tuple[Item, Result | Died]]:
    # Ray would repeat a lost task by itself and for ever: we count.
    remote = ray.remote(num_cpus=1, max_retries=0)(_alone).remote
    waiting = iter(items)
    again: deque[tuple[Item, int]] = deque()
    running: dict[Any, tuple[Item, int]] = {}
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    try:
        while True:
            while len(running) < (most or max(1, int(ray.cluster_resources().get("CPU", 1)))):
                if again:
                    item, deaths = again.popleft()
                elif (fresh := next(waiting, None)) is not None:
                    item, deaths = fresh, 0
                else:
                    break
                running[remote(work, item)] = item, deaths
            if not running:
                return
            for reference in ray.wait(list(running), num_returns=1)[0]:
                item, deaths = running.pop(reference)
                try:
                    result = ray.get(reference)
                except lost:
                    if deaths + 1 < attempts:
                        again.append((item, deaths + 1))
                    else:
                        yield item, Died(attempts)
                    continue
                except ray.exceptions.RayTaskError as error:
                    raise _readable(ray, error) from None
                yield item, result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _readable(ray: Any, error: Any) -> Exception:
    """What a user is meant to read: Ray's own text is a remote traceback."""
    if isinstance(error.cause, UserError):
        return error.cause
    if isinstance(error.cause, ray.exceptions.RaySystemError):
        reason = str(error.cause).strip().splitlines()[0]
        return UserError(
            f"a node of the cluster cannot load the work ({reason}); install the same versions on all"
        )
    raised: Exception = error
    return raised


def _alone(work: Callable[[Any], Any], item: Any) -> Any:
    """`work(item)` as a local worker computes it, so that its bits agree."""
    compute_with(threads=1)
    return work(item)


def _ray() -> Any:
    # Under `uv run`, Ray would pack the working folder and install it anew on every node.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(
            "--ray needs Ray, which is not installed: pip install 'lerobot_policy_dap[ray]'"
        ) from error
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        host, separator, port = address.removeprefix("ray://").rpartition(":")
        if separator and port.isdecimal():
            # Ray itself would wait for minutes, and then end the process.
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"no Ray cluster answers at {address} ({reason}); `ray start --head` starts one"
        ) from error
