"""What a folder was asked to hold: plan.json, written before the first episode and extended by later requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..checkpoints import ACTING_FILES, WEIGHTS_FILE, checkpoint_folder
from ..errors import UserError
from ..files import read_json, sha256, sha256_of_files, sole_run, write_json
from ..monitor.monitor import ARRAYS_FILE, SETTINGS_FILE
from .episodes import EXPERT
from .expert import HASH
from .hardware import hardware
from .plan import Plan, Policy
from .policies import rendering
from .store import PLAN_FILE, UnitKey, plan_units, read_plan, read_unit
from .words import condition

SCHEMA_VERSION = 1

Request = dict[str, Any]


def describe_request(plan: Plan, versions: str, command: str = "") -> Request:
    """The plan as plain JSON: settings on which results depend, policies with their hashes, and cells."""
    return {
        "schema": SCHEMA_VERSION,
        "settings": {
            "max_steps": plan.max_steps,
            "batch": plan.batch,
            "first_seed": plan.first_seed,
            "device": plan.device,
            "versions": versions,
        },
        "policies": [_describe(policy) for policy in plan.policies],
        "cells": [cell._asdict() for cell in plan.cells()],
        "left_out": [list(pair) for pair in plan.left_out],
        "command": command,
        "hardware": hardware(),
    }


def claim(out: Path, request: Request, say: Callable[[str], None] = print) -> Request:
    """Makes `out` the place of the request, or extends what it holds by it, and returns all that it then holds.

    A cell keeps the larger of the two numbers of episodes. Nothing finished is lost or run again.

    Args:
        say: called with a line about what an old plan leaves open.

    Raises:
        UserError: `out` holds something else, or was evaluated with other settings, checkpoints or monitors.
    """
    file = out / PLAN_FILE
    if not file.exists():
        # Hidden files are our own lock and what a killed run has left half-written.
        strangers = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.exists() else []
        if strangers:
            raise UserError(f"{out} holds something else ({strangers[0]}); choose another --out")
        write_json(file, request)
        return request
    found = read_plan(out)
    merged = extend(found, request, out, say)
    if merged != found:
        write_json(file, merged)
    return merged


def extend(found: Request, request: Request, out: Path, say: Callable[[str], None] = print) -> Request:
    """The request joined to what was asked before.

    Raises:
        UserError: they cannot lie in one table; the line names what differs.
    """
    if found.get("schema") != SCHEMA_VERSION:
        raise UserError(f"{out / PLAN_FILE} is not a plan that this version reads; choose another --out")
    for name, value in request["settings"].items():
        if found["settings"].get(name) != value:
            raise UserError(
                f"{out} holds an evaluation with {name}={found['settings'].get(name)}, not {value}; "
                "choose another --out"
            )
    policies = {(p["name"], p["training_seed"]): p for p in found["policies"]}
    for policy in request["policies"]:
        known = policies.get((policy["name"], policy["training_seed"]))
        for what in ("checkpoint", "acting"):
            if known is not None and known[what] != policy[what]:
                raise UserError(
                    f"{out} holds {policy['name']}@{policy['training_seed']} of another checkpoint than "
                    f"{policy['path']} ({what} {known[what][:12]}, not {policy[what][:12]}); "
                    "choose another --out, or name the replicate: NAME@SEED=CHECKPOINT"
                )
        if known is not None:
            _check_monitor(out, found, known, policy, say)
            if known.get("rendering", policy.get("rendering")) != policy.get("rendering"):
                raise UserError(
                    f"{out} holds {policy['name']}@{policy['training_seed']} with frames rendered as "
                    f"{known['rendering']}, not {policy['rendering']} (its dataset says so where it is found); "
                    "choose another --out"
                )
        policies[policy["name"], policy["training_seed"]] = policy
    _check_replicates(list(policies.values()))
    cells = {tuple(cell[key] for key in UnitKey.CELL): cell for cell in found["cells"]}
    for cell in request["cells"]:
        key = tuple(cell[key] for key in UnitKey.CELL)
        known = cells.get(key, cell)
        cells[key] = {**cell, "episodes": max(cell["episodes"], known["episodes"])}
    left_out = list(found["left_out"]) + [pair for pair in request["left_out"] if pair not in found["left_out"]]
    return {
        **found,
        "policies": list(policies.values()),
        "cells": list(cells.values()),
        "left_out": left_out,
        "command": request["command"],
        "hardware": request["hardware"],
    }


def only(plan: Plan, out: Path) -> None:
    """Raises `UserError` if `out` holds cells of another plan, which would stand in one table with this one's."""
    if (out / PLAN_FILE).exists():
        asked = {cell[:-1] for cell in plan.cells()}
        for found in read_plan(out)["cells"]:
            cell = tuple(found[key] for key in UnitKey.CELL)
            if cell not in asked:
                who, task, shift, level = cell[0], *cell[2:]
                raise UserError(
                    f"{out} holds {task} {condition(shift, level)} of {who}, which is not asked for now; choose "
                    "another --out, or put both into one plan"
                )


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Makes `out`, and holds it against a second run on any machine."""
    out.mkdir(parents=True, exist_ok=True)
    with sole_run(out, "run", out / ".lock"):
        yield


def guesses(request: Request) -> list[str]:
    """What is taken for granted of policies whose checkpoints do not say how their frames were rendered."""
    names = dict.fromkeys(p["name"] for p in request["policies"] if p.get("rendering_known") is False)
    return [
        f"The checkpoint of {name} does not say how its training frames were rendered, nor is its dataset found: it "
        "sees frames without shadows, reflections and multisampling, which are the defaults of `dap collect`."
        for name in names
    ]


def _describe(policy: Policy) -> dict[str, Any]:
    who = {"name": policy.name, "training_seed": policy.training_seed}
    if policy.path is None:
        return {**who, "type": EXPERT, "path": None, "checkpoint": HASH, "acting": HASH, "monitor": None}
    folder = checkpoint_folder(policy.path)
    config = read_json(folder / "config.json")
    sizes = {
        feature["shape"][-1]
        for feature in (config.get("input_features") or {}).values()
        if feature["type"] == "VISUAL"
    }
    shown = rendering(folder)
    return {
        **who,
        "type": config.get("type"),
        "image_size": ", ".join(map(str, sorted(sizes))) or None,
        "path": str(folder),
        "checkpoint": sha256(folder / WEIGHTS_FILE),
        "acting": sha256_of_files(folder, ACTING_FILES),
        "monitor": monitor_hash(folder),
        "rendering": shown.options,
        "rendering_known": shown.known,
    }


def monitor_hash(folder: Path) -> str | None:
    """One hash of the checkpoint's monitor; None where it was never calibrated."""
    return sha256_of_files(folder, (SETTINGS_FILE, ARRAYS_FILE)) if (folder / SETTINGS_FILE).exists() else None


def _check_monitor(
    out: Path, found: Request, known: dict[str, Any], policy: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Raises `UserError` where the alarms of two monitors would stand in one column."""
    who, now = f"{policy['name']}@{policy['training_seed']}", policy["monitor"]
    if "monitor" in known:
        before, same = known["monitor"] is not None, known["monitor"] == now
    else:  # a plan from before monitors were recorded: the rows tell whether there was one
        watched = _watched(out, found, known)
        before = watched is True
        same = watched is None or watched == (now is not None)
        if same and before:
            say(
                f"{out} does not record which monitor watched {who} before: if it was calibrated again since, "
                "choose another --out"
            )
    if not same:
        if before and now is not None:
            differs = f"watched by another monitor than {policy['path']} has now"
        elif before:
            differs = f"watched by a monitor, and {policy['path']} has none now"
        else:
            differs = f"without a monitor, and {policy['path']} has one now"
        raise UserError(f"{out} holds {who} {differs}; one table has the alarms of one: choose another --out")


def _watched(out: Path, plan: Request, policy: dict[str, Any]) -> bool | None:
    """Whether a monitor watched what is finished of a policy; None where nothing is."""
    found = None
    for unit in plan_units(plan):
        if (unit.policy, unit.training_seed) == (policy["name"], policy["training_seed"]):
            rows = None
            with suppress(UserError):  # a truncated part is evaluated again
                rows = read_unit(out, unit)
            if rows and any(row.p_value is not None for row in rows):
                return True
            found = False if rows else found
    return found


def _check_replicates(policies: list[dict[str, Any]]) -> None:
    """One checkpoint twice under one name would count as two trainings."""
    seen: dict[tuple[str, str], int] = {}
    for policy in policies:
        key = policy["name"], policy["checkpoint"]
        if key in seen:
            raise UserError(
                f"{key[0]}@{seen[key]} and {key[0]}@{policy['training_seed']} are one checkpoint; "
                "training replicates must be trained from different seeds"
            )
        seen[key] = policy["training_seed"]
