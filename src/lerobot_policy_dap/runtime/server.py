"""The policy server: openpi's WebSocket protocol, with bounds on everything a network can send."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import itertools
import logging
import secrets
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from .. import __version__
from ..errors import UserError
from .batching import Answer, Batcher
from .contract import Request
from .metrics import Metrics
from .model import ServedModel
from .refusals import Reason, Refused
from .session import Session
from .watch import Alarms, Judged, OnAlarm
from .wire import Limits, decode, encode

log = logging.getLogger(__name__)

SHORTEST_KEY = 16
"""Characters of an API key."""
_ROOM = 2**20  # bytes of a message beside the observation: text, left-over, a spare camera


@dataclass(frozen=True)
class ServerOptions:
    """Where the server listens, and what it takes."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    max_connections: int = 64
    max_rate: float = 100.0
    """Requests a second of one connection."""
    max_age: float = 2.0
    """Seconds; see `Session`."""
    window: float = 0.003
    """Seconds; see `Batcher`."""
    deadline: float = 5.0
    """Seconds; see `Batcher`."""
    message_timeout: float = 5.0
    """Seconds for a handshake, for the rest of a message that has begun, and for sending an answer."""
    ping: float = 10.0
    """Seconds between two pings, and for the answer to one: what finds half-open connections."""
    drain: float = 10.0
    """Seconds that requests under way may take when the server ends."""
    on_alarm: OnAlarm = OnAlarm.REPORT
    """What happens to the chunks of an episode in which the checkpoint's monitor has raised an alarm."""

    def check(self) -> None:
        """Raises `UserError` for a server that strangers could use."""
        if self.api_key is not None and len(self.api_key) < SHORTEST_KEY:
            raise UserError(
                f"the API key has {len(self.api_key)} characters; take at least {SHORTEST_KEY}, as of "
                "`openssl rand -hex 32`"
            )
        if self.api_key is None and not _is_loopback(self.host):
            raise UserError(
                f"--host {self.host} can be reached by other machines: give an API key with --api-key-env or "
                "--api-key-file, or serve on 127.0.0.1"
            )


class PolicyServer:
    """Answers observations with action chunks.

    Args:
        model: what answers; `swap` replaces it.
        options: where and within which bounds.
    """

    def __init__(self, model: ServedModel, options: ServerOptions | None = None) -> None:
        self.options = options or ServerOptions()
        self.options.check()
        self.metrics = Metrics()
        self._sessions: dict[ServerConnection, Session] = {}
        self._busy: set[ServerConnection] = set()
        self._draining = False
        self._alarms = Alarms()
        o = self.options
        self._batcher = Batcher(model, o.window, o.deadline, self.metrics, lambda: len(self._sessions))
        self._chunk_ids = (f"{secrets.token_hex(4)}-{n}" for n in itertools.count(1))
        self.swap(model)

    @property
    def model(self) -> ServedModel:
        """What answers now."""
        return self._batcher.model

    def swap(self, model: ServedModel) -> None:
        """Lets another model answer from the next call on; its contract must be the present one's."""
        self._batcher.model = model
        self.metrics.set("model_info", 1, policy=model.config.type, weights=model.weights[:12])
        size = 2 * model.contract.observation_bytes + _ROOM
        self._limits = Limits(size=size)
        self._greeting = encode({"server": f"lerobot_policy_dap {__version__}", **model.metadata()})

    async def start(self) -> None:
        """Listens; returns when connections are accepted. Raises `UserError` if the port is taken."""
        o = self.options
        try:
            self._server: Server = await serve(
                self._handle,
                o.host,
                o.port,
                process_request=self._admit,
                create_connection=_at_most(2 * o.max_connections + 8),
                origins=[None],  # browsers name one: no web page may speak to a server on its reader's machine
                compression=None,  # a few bytes must not become gigabytes
                max_size=self._limits.size,
                max_queue=1,
                write_limit=2**16,
                open_timeout=o.message_timeout,
                ping_interval=o.ping,
                ping_timeout=o.ping,
                close_timeout=1,
                server_header=None,
            )
        except OSError as error:
            raise UserError(f"cannot listen on {o.host} port {o.port}: {error.strerror or error}") from error
        self._batching = asyncio.create_task(self._batcher.run())
        self.metrics.set("healthy", 1)
        self.metrics.set("connections", 0)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def stop(self) -> None:
        """Takes nothing new, lets requests under way be answered, closes every connection, and ends."""
        self._draining = True
        self.metrics.set("healthy", 0)
        self._server.close(close_connections=False)
        idle = [connection for connection in self._sessions if connection not in self._busy]
        await asyncio.gather(*(_goodbye(connection) for connection in idle))
        try:
            async with asyncio.timeout(self.options.drain):
                await self._server.wait_closed()
        except TimeoutError:
            log.warning("%d requests were still under way after %g s", len(self._busy), self.options.drain)
            await asyncio.gather(*(_goodbye(connection) for connection in list(self._sessions)))
        self._batching.cancel()

    # Before a WebSocket is one

    def _admit(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if request.path == "/healthz":
            trouble = "draining" if self._draining else "stalled" if self._batcher.stalled else None
            status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
            return connection.respond(status, f"{trouble or 'ok'}\n")
        if not self._knows_key(request):
            self.metrics.add("refusals_total", reason=Reason.UNAUTHORIZED)
            return connection.respond(HTTPStatus.UNAUTHORIZED, "send the header Authorization: Api-Key KEY\n")
        if request.path == "/metrics":
            return connection.respond(HTTPStatus.OK, self.metrics.text())
        if self._draining or len(self._sessions) >= self.options.max_connections:
            reason = Reason.DRAINING if self._draining else Reason.OVERLOADED
            self.metrics.add("refusals_total", reason=reason)
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
        return None

    def _knows_key(self, request: HttpRequest) -> bool:
        if self.options.api_key is None:
            return True
        given = request.headers.get_all("Authorization")
        expected = f"Api-Key {self.options.api_key}"
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), expected.encode())

    # One connection

    async def _handle(self, connection: ServerConnection) -> None:
        o = self.options
        session = Session(self.model.contract.n_obs_steps, o.max_age, o.max_rate)
        self._sessions[connection] = session
        self.metrics.add("connections_total")
        self.metrics.set("connections", len(self._sessions))
        log.info("%s connected", connection.remote_address)
        try:
            await self._send(connection, self._greeting)
            last_total = None
            while not self._draining:
                message = await self._receive(connection)
                started = time.monotonic()
                self._busy.add(connection)
                try:
                    reply = await self._reply(session, message, started, last_total)
                    await self._send(connection, reply)
                finally:
                    self._busy.discard(connection)
                last_total = time.monotonic() - started
            await _goodbye(connection)
        except TimeoutError:
            log.warning("%s was too slow with a message", connection.remote_address)
            self.metrics.add("refusals_total", reason=Reason.TOO_SLOW)
            await connection.close(CloseCode.POLICY_VIOLATION, "too slow with a message")
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self.metrics.add("refusals_total", reason=Reason.MESSAGE_TOO_LARGE)
        finally:
            del self._sessions[connection]
            self.metrics.set("connections", len(self._sessions))
            log.info("%s left", connection.remote_address)

    async def _receive(self, connection: ServerConnection) -> bytes | str:
        """The next message. Waiting for one to begin may take for ever; a frame at a time may not."""
        fragments = connection.recv_streaming()
        first = await anext(fragments)
        async with asyncio.timeout(self.options.message_timeout):
            rest = [fragment async for fragment in fragments]
        # A message is all text or all bytes; text is refused whatever it says.
        return (
            b"".join([first, *(part for part in rest if isinstance(part, bytes))])
            if isinstance(first, bytes)
            else first
        )

    async def _send(self, connection: ServerConnection, reply: bytes | str) -> None:
        async with asyncio.timeout(self.options.message_timeout):
            await connection.send(reply)

    async def _reply(
        self, session: Session, message: bytes | str, started: float, last_total: float | None
    ) -> bytes | str:
        try:
            session.count()
            if isinstance(message, str):
                raise Refused(Reason.MALFORMED_MESSAGE, "text; send msgpack in a binary message")
            request = session.accept(self.model.contract.read(decode(message, self._limits)))
            answer = await self._batcher.ask(request)
            judged = self._judged(request, answer)
        except Refused as refused:
            self.metrics.add("requests_total", outcome="refused")
            self.metrics.add("refusals_total", reason=refused.reason)
            return refused.text
        seconds = time.monotonic() - started
        self.metrics.add("requests_total", outcome="answered")
        self.metrics.observe("request_seconds", seconds)
        return encode(self._chunk(request, answer, judged, seconds, last_total))

    def _judged(self, request: Request, answer: Answer) -> Judged | None:
        """What the monitor said, counted; raises `Refused` where an alarm stops the robot."""
        judged = self._alarms.kept(request.episode, answer.planned.judged)
        if judged is None:
            return None
        if judged.p_value is not None:
            self.metrics.add("monitored_total", alarm="on" if judged.alarm else "off")
        self.metrics.add("alarms_total", judged.first)
        if judged.alarm and self.options.on_alarm is OnAlarm.STOP:
            raise Refused(
                Reason.ALARM,
                f"the monitor raised an alarm in this episode (p = {self._alarms.p_value(request.episode):.3g}); look "
                "at the robot, and send reset=True when another episode begins",
            )
        return judged

    def _chunk(
        self, request: Request, answer: Answer, judged: Judged | None, seconds: float, last_total: float | None
    ) -> dict[str, Any]:
        checked = answer.planned.checked
        limited = {"out_of_range": checked.out_of_range, "too_fast": checked.too_fast}
        for limit, count in limited.items():
            self.metrics.add("actions_limited_total", count, limit=limit)
        timing = {
            "infer_ms": 1000 * answer.inference_seconds,
            "queue_ms": 1000 * answer.queue_seconds,
            "total_ms": 1000 * seconds,
        }
        if last_total is not None:
            timing["prev_total_ms"] = 1000 * last_total  # with its sending, as openpi's server counts
        monitor = (
            {} if judged is None else {"monitor": {**judged._asdict(), "on_alarm": str(self.options.on_alarm)}}
        )
        return monitor | {
            "actions": checked.actions,
            "timestamp": request.timestamp,
            "chunk_id": next(self._chunk_ids),
            "weights": answer.planned.version,
            "limited": limited,
            "server_timing": timing,
        }


async def _goodbye(connection: ServerConnection) -> None:
    await connection.close(CloseCode.GOING_AWAY, "the server is ending")


def _at_most(limit: int) -> type[ServerConnection]:
    """A connection class that hangs up at once where there are `limit` sockets already, handshakes included."""
    alive: set[ServerConnection] = set()

    class Counted(ServerConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            alive.add(self)
            if len(alive) > limit:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            alive.discard(self)
            super().connection_lost(exc)

    return Counted


def _is_loopback(host: str) -> bool:
    """Whether every address of `host` is this machine's own."""
    if not host:  # every address of this machine
        return False
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}") from error
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
