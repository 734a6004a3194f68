"""`dap serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .options import chosen_device

if TYPE_CHECKING:
    from ..runtime.server import PolicyServer


class OnUnsafe(StrEnum):
    """What to do with actions beyond the limits; `runtime.limits` says what each does."""

    clamp = "clamp"
    hold = "hold"
    refuse = "refuse"


class OnAlarm(StrEnum):
    """What to do when the monitor raises an alarm; `runtime.watch` says what each does."""

    report = "report"
    hold = "hold"
    slow = "slow"
    stop = "stop"


def serve(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of any LeRobot policy, or a training run.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="CLIENT=CHECKPOINT names of a feature; several times for several.")
    ] = None,
    on_unsafe: Annotated[OnUnsafe, typer.Option(help="Actions beyond the limits.")] = OnUnsafe.clamp,
    on_alarm: Annotated[
        OnAlarm, typer.Option(help="Alarms of the monitor that `dap calibrate` made.")
    ] = OnAlarm.report,
    margin: Annotated[float, typer.Option(help="Allowed beyond the demonstrated range, as part of it.")] = 0.1,
    max_change: Annotated[float, typer.Option(help="Allowed from one action to the next, as part of it.")] = 1.0,
    deadline: Annotated[
        float, typer.Option(help="Seconds to wait for a turn, and for the model: longer is a stall.")
    ] = 5.0,
    max_age: Annotated[float, typer.Option(help="Seconds an observation may be late; 0 for any.")] = 2.0,
    max_connections: Annotated[int, typer.Option(help="Clients at once.")] = 64,
    max_rate: Annotated[float, typer.Option(help="Requests a second of one client.")] = 100.0,
    max_batch: Annotated[int, typer.Option(help="Requests that share a call of the model.")] = 16,
    window: Annotated[float, typer.Option(help="Seconds the first of several clients waits for others.")] = 0.003,
    watch: Annotated[float, typer.Option(help="Seconds between looks for a new checkpoint; 0 never looks.")] = 0.0,
    device: Annotated[str | None, typer.Option(help="Where the policy computes; a GPU if there is one.")] = None,
) -> None:
    """Serve a checkpoint over the openpi WebSocket protocol, safe by default."""
    try:
        import msgpack  # type: ignore[import-untyped]  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"dap serve needs {error.name}: install the extra, as in pip install 'lerobot_policy_dap[serve]'"
        ) from error
    for name, value, least in (
        ("deadline", deadline, 0.01),
        ("max-connections", max_connections, 1),
        ("max-rate", max_rate, 0.1),
        ("max-batch", max_batch, 1),
        ("margin", margin, 0),
        ("max-change", max_change, 0),
        ("max-age", max_age, 0),
        ("window", window, 0),
        ("watch", watch, 0),
    ):
        if not value >= least:
            raise UserError(f"--{name} is {value}; it must be at least {least}")
    names = _pairs(rename or [])
    key = _key(api_key_env, api_key_file)

    from ..runtime import limits
    from ..runtime import watch as alarms
    from ..runtime.model import ModelOptions, ServedModel
    from ..runtime.server import ServerOptions
    from ..runtime.service import serve_checkpoint

    server_options = ServerOptions(
        host,
        port,
        key,
        max_connections,
        max_rate,
        max_age,
        window=window,
        deadline=deadline,
        on_alarm=alarms.OnAlarm(on_alarm),
    )
    server_options.check()  # before the model is loaded, which takes long
    model_options = ModelOptions(
        chosen_device(device), names, max_batch, margin, max_change, limits.OnUnsafe(on_unsafe)
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("lerobot_policy_dap").setLevel(logging.INFO)
    logging.getLogger("websockets").setLevel(
        logging.CRITICAL
    )  # strangers' broken handshakes are counted, not told
    model = ServedModel(checkpoint, model_options)
    if on_alarm is not OnAlarm.report and not model.raises_alarms:
        raise UserError(f"--on-alarm {on_alarm}: {model.folder} has no monitor; `dap calibrate` makes one")
    asyncio.run(serve_checkpoint(checkpoint, model, server_options, watch, _ready))
    print("ended", flush=True)


def _ready(server: PolicyServer) -> None:
    host = server.options.host
    where = f"[{host}]" if ":" in host else host
    model = server.model
    print(f"ready: ws://{where}:{server.port} serves {model.config.type} {model.weights[:12]}", flush=True)


def _key(variable: str | None, file: Path | None) -> str | None:
    """The key; never a command-line argument, which every user of the machine could read."""
    if variable is not None and file is not None:
        raise UserError("give --api-key-env or --api-key-file, not both")
    if variable is not None:
        if not os.environ.get(variable):
            raise UserError(f"--api-key-env {variable}: there is no such environment variable, or it is empty")
        return os.environ[variable].strip()
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-key-file {file} cannot be read ({error})") from error
    return None


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    for theirs, ours in pairs.items():
        if not theirs or not ours:
            raise UserError(
                f"--rename is {theirs or ours!r}; give CLIENT=CHECKPOINT, such as cam=observation.images.top"
            )
    return pairs
