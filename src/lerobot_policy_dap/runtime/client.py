"""A client of a policy server: openpi's interface, with deadlines and reconnection."""

from __future__ import annotations

import asyncio
import concurrent.futures
import secrets
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from .refusals import AFTER_A_LOOK, Reason, Refused
from .wire import Limits, decode, encode

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to connect, doubling


class ServerUnavailable(Exception):  # noqa: N818 - what a robot's program handles, as it handles `Refused`
    """No answer within the deadline: the server cannot be reached, was lost and did not come back, or is too slow."""


class PolicyClient:
    """Asks a policy server for chunks; one request at a time.

    Every call ends within its deadline, whatever happens to the server: a lost connection is made again, and the
    request sent again, until then. `infer` and `get_server_metadata` are those of openpi's `WebsocketClientPolicy`.
    An episode goes on over lost connections: its name is sent with every request (`episode_token`).

    Args:
        host: a name or address, or a whole `ws://` or `wss://` address.
        port: of the server, where `host` does not say.
        api_key: if the server wants one.
        deadline: seconds that a call may take, reconnecting included.

    Raises:
        ServerUnavailable: there is no server within the deadline.
        Refused: the server does not take the key.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int | None = None, api_key: str | None = None, deadline: float = 5.0
    ) -> None:
        self._uri = host if host.startswith(("ws://", "wss://")) else f"ws://{host}"
        self._uri += f":{port}" if port is not None else ""
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self.deadline = deadline
        self._connection: ClientConnection | None = None
        self._metadata: dict[str, Any] = {}
        self.reconnections = 0
        # Sockets in a loop of their own: that alone bounds every wait, sending to a server that reads nothing included.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="policy client", daemon=True)
        self._thread.start()
        self._one = threading.Lock()
        self._submitting = threading.Lock()
        self._closed = False
        self._episode = self._begun = secrets.token_hex(8)  # now, and the last one that the server has begun
        try:
            self._within(deadline, self._connected())
        except BaseException:
            self.close()
            raise

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said of its policy when the connection was made."""
        return self._metadata

    def infer(self, obs: dict[str, Any], deadline: float | None = None) -> dict[str, Any]:
        """The server's answer to an observation: `actions` `[n, A]` and what goes with them.

        Args:
            deadline: seconds for this call instead of the client's.

        Raises:
            Refused: the server refused the request; `reason` says why.
            ServerUnavailable: no answer came within the deadline.
        """
        with self._one:
            if self._episode == self._begun and np.any(obs.get("reset", False)):
                self.reset()
            episode = self._episode
            message: dict[str, Any] = {} if episode == self._begun else {"reset": True}
            if "monitor" in self._metadata:  # openpi's own servers know no such key
                message["episode_token"] = episode
            answer = self._within(deadline or self.deadline, self._ask(encode({**obs, **message})))
            refused = Refused.parse(answer) if isinstance(answer, str) else None
            if refused is None or refused.reason in AFTER_A_LOOK:
                self._begun = episode
            if refused is not None:
                raise refused
        assert isinstance(answer, bytes)
        return decode(answer, _ANSWERS)

    def reset(self) -> None:
        """An episode begins: requests tell the server to forget the last one's observations, until one is answered."""
        self._episode = secrets.token_hex(8)

    def close(self) -> None:
        """Says goodbye; a request under way raises `ServerUnavailable`, and the client cannot be used afterwards."""
        with self._submitting:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _within[Result](self, deadline: float, work: Coroutine[Any, Any, Result]) -> Result:
        self._trouble = "it does not answer"

        async def bounded() -> Result:
            async with asyncio.timeout(deadline):
                return await work

        with self._submitting:
            if self._closed:  # its loop may have ended, and would never answer
                work.close()
                raise ServerUnavailable("the client was closed")
            answer = asyncio.run_coroutine_threadsafe(bounded(), self._loop)
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            raise ServerUnavailable("the client was closed") from None
        except TimeoutError:
            self._drop()  # its answer may still come, and would be taken for the next request's
            raise ServerUnavailable(f"{self._uri}: no answer within {deadline:g} s ({self._trouble})") from None

    async def _ask(self, message: bytes) -> bytes | str:
        pause = _FIRST_PAUSE
        while True:
            connection = await self._connected()
            try:
                await connection.send(message)
                return await connection.recv()
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code == 1009:
                    self._connection = None
                    raise Refused(Reason.MESSAGE_TOO_LARGE, closed.rcvd.reason) from closed
                self._trouble = f"the connection was lost: {closed}"
                self._connection = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connected(self) -> ClientConnection:
        pause = _FIRST_PAUSE
        while self._connection is None:
            try:
                self._connection = await self._connect()
            except InvalidStatus as error:
                if error.response.status_code == 401:
                    raise Refused(Reason.UNAUTHORIZED, f"{self._uri} does not take the API key") from error
                self._trouble = f"it answers {error.response.status_code} {error.response.body.decode().strip()}"
            except (OSError, InvalidHandshake, ConnectionClosed) as error:
                self._trouble = str(error)
            if self._connection is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        return self._connection

    async def _connect(self) -> ClientConnection:
        connection = await connect(
            self._uri,
            additional_headers=self._headers,
            compression=None,
            max_size=_ANSWERS.size,
            ping_interval=5,
            ping_timeout=5,
            close_timeout=1,
            proxy=None,
        )
        try:
            greeting = await connection.recv()
            if isinstance(greeting, str):
                raise Refused.parse(greeting)
            self.reconnections += bool(self._metadata)
            self._metadata = decode(greeting, _ANSWERS)
        except BaseException:
            connection.transport.abort()
            raise
        return connection

    async def _leave(self) -> None:
        """Ends whatever is under way, which would connect again, and then the connection."""
        connection, self._connection = self._connection, None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if connection is not None:
            await connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.call_soon_threadsafe(connection.transport.abort)


_ANSWERS = Limits(size=16 * 2**20)
