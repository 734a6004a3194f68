"""The machine on which something was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from ..errors import UserError


def hardware() -> str:
    """The processor and the cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}"


def check_device(name: str, here: bool = True) -> None:
    """Raises `UserError` unless `name` is a device of torch's and, if `here`, this machine has it."""
    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
    except RuntimeError as error:
        raise UserError(
            f"--device is {name!r}, which torch does not know; give cpu, cuda, cuda:1 or mps"
        ) from error
    if here and not (module.is_available() and (device.index or 0) < module.device_count()):
        raise UserError(f"--device is {name}, and torch finds no such device on this machine; give cpu, or none")
