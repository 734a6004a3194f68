"""A server as a process: signals, and checkpoints that change while it serves."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from ..checkpoints import WEIGHTS_FILE, checkpoint_folder
from ..errors import UserError
from .model import ModelOptions, ServedModel
from .server import PolicyServer, ServerOptions
from .watch import OnAlarm

log = logging.getLogger(__name__)


class Reloader:
    """Loads a checkpoint beside the one that answers, and swaps it in between two calls.

    Args:
        path: as given to `ServedModel`; a training run leads to another checkpoint as training goes on.
    """

    def __init__(self, server: PolicyServer, path: Path, options: ModelOptions) -> None:
        self._server, self._path, self._options = server, path, options
        self._loading = asyncio.Lock()
        self._known = self.state()

    def state(self) -> tuple[str, int, int] | None:
        """Which weights lie there now: path, time and size; None while a checkpoint is being put in place."""
        try:
            weights = checkpoint_folder(self._path).resolve() / WEIGHTS_FILE
            found = weights.stat()
        except (UserError, OSError):
            return None
        return str(weights), found.st_mtime_ns, found.st_size

    async def reload(self) -> bool:
        """Whether a new checkpoint answers now; one that cannot is logged, and the old one goes on."""
        async with self._loading:
            self._known = self.state()
            old = self._server.model
            try:
                new = await asyncio.to_thread(ServedModel, self._path, self._options)
                if new.contract != old.contract or new.chunk != old.chunk:
                    raise UserError(
                        f"{new.folder} has other features or chunks than {old.folder}: start another server for it"
                    )
                on_alarm = self._server.options.on_alarm
                if on_alarm is not OnAlarm.REPORT and not new.raises_alarms:
                    raise UserError(
                        f"{new.folder} has no monitor, and --on-alarm is {on_alarm}: `dap calibrate` it, and send "
                        "SIGHUP"
                    )
            except Exception as error:
                log.error("the new checkpoint is not taken: %s", error)
                self._server.metrics.add("reloads_total", outcome="refused")
                return False
            self._server.swap(new)
            self._server.metrics.add("reloads_total", outcome="taken")
            log.info("serving %s (%s)", new.folder, new.weights[:12])
            return True

    async def watch(self, seconds: float) -> None:
        """Looks every so often, and reloads when the weights are others and have come to rest."""
        before = self._known
        while True:
            await asyncio.sleep(seconds)
            now = self.state()
            if now is not None and now != self._known and now == before:
                await self.reload()
            before = now


async def serve_checkpoint(
    path: Path,
    model: ServedModel,
    server_options: ServerOptions,
    watch: float,
    ready: Callable[[PolicyServer], None],
) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP loads the checkpoint again.

    Args:
        path: where `model` came from, and new checkpoints come from.
        watch: seconds between two looks for a new checkpoint; 0 never looks.
        ready: called when connections are accepted.

    Raises:
        UserError: the options are unsafe, or the port is taken.
    """
    server = PolicyServer(model, server_options)
    await server.start()
    reloader = Reloader(server, path, model.options)
    loop, end, tasks = asyncio.get_running_loop(), asyncio.Event(), set()

    def reload() -> None:
        task = asyncio.create_task(reloader.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGTERM, end.set)
    loop.add_signal_handler(signal.SIGINT, end.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    watching = asyncio.create_task(reloader.watch(watch)) if watch else None
    ready(server)
    await end.wait()
    log.info("draining")
    if watching is not None:
        watching.cancel()
    await server.stop()
