"""What several verbs take, and how their texts are read."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from ..errors import UserError

Workers = Annotated[int | None, typer.Option(min=0, help="Processes; one a core if not given, or 0.")]

ALL = "all"


def typed() -> str:
    """The command as the user typed it, for the page that it makes."""
    return shlex.join(["dap", *sys.argv[1:]])


def words(text: str) -> list[str]:
    """The words of a list separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def factors(text: str) -> list[str]:
    """The factors of a list separated by commas; every one for `all`, no one for `none`."""
    from ..worlds.shifts import CLEAN, SHIFTS

    return list(SHIFTS) if text == ALL else [name for name in words(text) if name != CLEAN]


def numbers(text: str, option: str = "--severity") -> tuple[int, ...]:
    """The numbers of an option; raises `UserError` for anything else."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise UserError(f"{option} is {text!r}; give whole numbers separated by commas, such as 2,4") from None


def chosen_device(asked: str | None) -> str:
    """The device of `--device`, or the best there is; raises `UserError` where this machine has none such."""
    from ..processes import check_device, default_device

    device = asked or default_device()
    check_device(device)
    return device
