"""Imports point one way (docs/architecture.md), and files stay short."""

import ast
from pathlib import Path

import pytest

import lerobot_policy_dap

ROOT = Path(lerobot_policy_dap.__file__).parent
BASE = {"errors", "files"}
POLICY = {"configuration_dap", "modeling_dap", "processor_dap"}

# Each room, and the rooms of this package it may import. `cli`, `demo` and the package itself may import all.
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "processes": {"errors"},
    "progress": BASE,
    "compiling": {"flow"},
    "diagnostics": set(),
    "quiet": set(),
    "checkpoints": {"errors"},
    "weights": BASE | {"nets"},
    "observing": {"errors"},
    "realtime": {"flow"},
    "remembered": {"errors", "flow", "modeling_dap"},  # the last for its type alone
    "card": {"configuration_dap"},
    "flow": set(),
    "nets": set(),
    "configuration_dap": BASE | {"flow", "nets"},
    "processor_dap": {"configuration_dap"},
    "monitor": BASE | {"flow", "data", "observing"},
    "training_figures": {"flow", "nets", "modeling_dap"},  # the last for its type alone
    "modeling_dap": BASE
    | {
        "flow",
        "nets",
        "configuration_dap",
        "compiling",
        "weights",
        "diagnostics",
        "observing",
        "realtime",
        "remembered",
        "card",
        "monitor",
        "training_figures",
    },
    "data": BASE,
    "worlds": BASE | {"processes", "data"},
    "train": BASE | {"data", "observing"},
    "probe": BASE | {"processes", "worlds", "bench", "checkpoints", "observing", "data"},
    "bench": BASE | {"processes", "worlds", "checkpoints", "monitor", "observing"},
    "runtime": BASE | {"progress", "checkpoints", "realtime", "monitor", "observing"},
}
NEVER = {"flow": ("lerobot", "numpy", "mujoco"), "nets": ("lerobot", "mujoco"), "worlds": ("torch",)}


def imports(path):
    """Absolute module names that a file imports, with relative ones resolved."""
    package = ("lerobot_policy_dap", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(module):
    parts = module.split(".")
    return parts[1] if parts[0] == "lerobot_policy_dap" and len(parts) > 1 else None


FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_lies_to_its_left(path):
    here = room(".".join(("lerobot_policy_dap", *path.relative_to(ROOT).with_suffix("").parts)))
    if here in ("cli", "demo"):
        return
    for module in imports(path):
        there = room(module)
        if (
            there is not None
            and there != here
            and (ROOT / there).with_suffix(".py").exists() | (ROOT / there).is_dir()
        ):
            assert there in MAY_IMPORT[here], f"{here} imports {module}"
        for foreign in NEVER.get(here, ()):
            assert module.split(".")[0] != foreign, f"{here} imports {module}"


def test_every_room_is_known():
    rooms = {
        p.stem if p.is_file() else p.name
        for p in ROOT.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__", "cli", "demo"} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
