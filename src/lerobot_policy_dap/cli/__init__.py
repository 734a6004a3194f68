"""The `dap` command: one function a verb, each as thin as it can be, and slow imports inside the verbs."""

from __future__ import annotations

import errno
import sys

import typer

from ..errors import UserError
from ..files import is_disk_full
from .bench import bench
from .calibrate import calibrate
from .evaluate import evaluate
from .gallery import gallery
from .learn import collect, demo, train
from .probe import probe
from .report import compare, report
from .serve import serve

INTERRUPTED = 130
UNWRITABLE = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)

app = typer.Typer(
    help="Dynamics-aligned flow matching policies for LeRobot, and what any policy does under visual shift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(collect)
# `--help` is passed on: the flags are LeRobot's.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    train
)
app.command(name="eval")(evaluate)
app.command()(gallery)
app.command()(probe)
bench.command()(report)
bench.command()(compare)
app.add_typer(bench, name="bench")
app.command()(calibrate)
app.command()(serve)


def main() -> None:
    """The entry point: a `UserError` is one line and status 2, an interruption one line and status 130."""
    status = 0
    try:
        from .. import quiet  # noqa: F401 - takes seconds, in which one may change one's mind

        status = app(standalone_mode=False)  # of what left early, too: Typer makes one of an interruption
    except UserError as error:
        sys.exit(_failed(str(error), 2))
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if isinstance(error, UNWRITABLE) or getattr(error, "errno", None) == errno.EROFS:
            where = getattr(error, "filename", None) or "a file"
            sys.exit(_failed(f"{where} cannot be used: {getattr(error, 'strerror', None) or error}", 2))
        if is_disk_full(error):
            sys.exit(
                _failed(f"no space left on the disk; what is finished is kept: free some and go on ({error})", 2)
            )
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # Typer's own, such as an unknown option
            error.show()
            sys.exit(error.exit_code)
        raise
    if status == INTERRUPTED:
        sys.exit(_failed("interrupted; what is finished is kept: run the same command to go on", INTERRUPTED))
    if status:
        sys.exit(status)


def _failed(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
