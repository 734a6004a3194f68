"""From the folder of `dap bench run` to its report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import WEIGHTS_FILE, checkpoint_folder
from ..errors import UserError
from ..files import sha256, write_json
from ..processes import each
from ..worlds.rendering import RenderSettings
from ..worlds.shifts import SHIFTS
from ..worlds.tasks import description, resolve_task
from ..worlds.world import FPS, World, world_versions
from . import words
from .describe import describe_policy
from .episodes import CLEAN
from .films import choose_films
from .plan import Policy
from .policies import environment_for
from .records import Results
from .report import StripImage, VideoClip, write_report
from .request import guesses
from .results import summarise
from .store import Film, open_results
from .store import Results as Evaluated

_SIZE = 192
_EVERY = 4
"""Steps between two frames of a video: 20 frames a second, at the speed of the robot."""
_GALLERY_TASKS = 6


def present(
    folder: Path,
    out: Path,
    *,
    command: str,
    workers: int,
    pictures: bool = True,
    tasks: Sequence[str] = (),
    title: str | None = None,
    stages: Sequence[dict[str, Any]] = (),
    numbers: Path | None = None,
) -> Results:
    """Writes the report of what is finished in `folder` to `out`, and its numbers as JSON.

    Args:
        command: by which the report was asked for; shown where the plan does not record the run's own.
        workers: processes that render.
        pictures: whether to render the gallery and the videos.
        tasks: what the page is about; all tasks if empty.
        title: of the page; named after the folder if None.
        stages: name and seconds of each part of the work.
        numbers: where the JSON goes; beside `out` if None.

    Raises:
        UserError: the folder holds no evaluation, nothing of it is finished, a file of it is truncated, or it lacks
            one of the tasks.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the page, such as {out / 'report.html'}")
    found = open_results(folder)
    if not found.episodes:
        raise UserError(f"{folder} has no finished episodes yet; run `dap bench run` to its end")
    if tasks:
        found = _of_tasks(found, {resolve_task(task) for task in tasks}, folder)
    meta = _meta(found, folder, command) | {"stages": list(stages)}
    if title is not None:
        meta["title"] = title
    strip: list[StripImage] = []
    clips: list[VideoClip] = []
    if pictures:
        unlike = _unlike(found.plan)
        if unlike:
            meta["notes"].append(f"No pictures: {unlike}, so episodes cannot be seen again as they were.")
        else:
            cameras = _cameras(found.plan)
            shown = list(dict.fromkeys(episode.task for episode in found.episodes))
            strip = _gallery(found, shown[:_GALLERY_TASKS], cameras, workers)
            clips = _clips(found.films, cameras, workers)
            if len(shown) > _GALLERY_TASKS:
                meta["notes"].append(f"Images of the shifts are of the first {_GALLERY_TASKS} tasks.")
    results = summarise(found.episodes, meta)
    write_json(numbers or out.with_suffix(".json"), results)
    write_report(out, results, strip, clips)
    return results


def _of_tasks(found: Evaluated, tasks: set[str], folder: Path) -> Evaluated:
    lacking = tasks - {episode.task for episode in found.episodes}
    if lacking:
        raise UserError(f"{folder} has no finished episodes of {words.listed(sorted(lacking))}")
    episodes = [episode for episode in found.episodes if episode.task in tasks]
    return replace(found, episodes=episodes, films=[film for film in found.films if film.task in tasks])


def _meta(found: Evaluated, folder: Path, command: str) -> dict[str, Any]:
    plan = found.plan
    used = {episode.shift for episode in found.episodes}
    shown = {episode.task for episode in found.episodes}
    notes = []
    if found.missing:
        notes.append(
            f"The evaluation is not finished; of its plan, {words.counted(len(found.missing), 'part')} to go."
        )
    notes += guesses(plan)
    for task, shift in plan.get("left_out") or []:
        notes.append(f"Factor {shift} cannot be applied to {task} and was left out there.")
    return {
        "title": f"Robustness of {folder.resolve().name}",
        "command": plan.get("command") or command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": plan["settings"].get("versions"),
        "hardware": plan.get("hardware"),
        "max_steps": plan["settings"].get("max_steps"),
        "task_description": description(next(iter(shown))) if len(shown) == 1 else None,
        "policies": [_policy(policy) for policy in plan["policies"]],
        "shifts": [
            {
                "name": shift.name,
                "quantity": shift.quantity,
                "unit": shift.unit,
                "magnitudes": list(shift.magnitudes),
                "physical": bool(getattr(shift, "physical", False)),
            }
            for shift in SHIFTS.values()
            if shift.name in used
        ],
        "notes": notes,
    }


def _policy(entry: dict[str, Any]) -> dict[str, Any]:
    """What the plan records of a policy, with what its checkpoint tells where that still has the weights evaluated."""
    known = {key: entry.get(key) for key in ("name", "type", "checkpoint", "training_seed")}
    if entry.get("image_size"):
        known["image_size"] = entry["image_size"]
    if entry.get("path") is None:
        return known
    try:
        folder = checkpoint_folder(Path(entry["path"]))
        # A path such as checkpoints/last leads elsewhere after more training.
        if sha256(folder / WEIGHTS_FILE) != entry["checkpoint"]:
            return known
        return describe_policy(Policy(entry["name"], folder)) | known
    except UserError:
        return known


def _unlike(plan: dict[str, Any]) -> str | None:
    """How the simulator differs from the evaluation's, in words."""
    recorded = str(plan["settings"].get("versions"))
    for name, version in world_versions().items():
        if f"{name} {version}" not in recorded:
            return f"this machine has {name} {version}, and the evaluation had another"
    return None


def _cameras(plan: dict[str, Any]) -> tuple[str, ...]:
    """The cameras of the first policy whose checkpoint is still there, and whole."""
    for path in (policy["path"] for policy in plan["policies"] if policy.get("path")):
        with suppress(UserError):
            folder = checkpoint_folder(Path(path))
            return environment_for(folder, plan["cells"][0]["task"], plan["settings"]["max_steps"]).cameras
    return ("corner2",)


def _gallery(found: Evaluated, tasks: Sequence[str], cameras: tuple[str, ...], workers: int) -> list[StripImage]:
    """The first held-out episode's first frame of each task, clean and under every condition."""
    seed = found.plan["settings"]["first_seed"]
    asked = []
    for task in tasks:
        conditions = {(e.shift, e.severity) for e in found.episodes if e.task == task and e.shift in SHIFTS}
        asked.append((task, [(CLEAN, 0), *sorted(conditions)]))
    images = {task: shown for (task, _), shown in each(partial(_look, cameras=cameras, seed=seed), asked, workers)}
    return [
        StripImage(shift, severity, _caption(shift, severity), image, task)
        for task, conditions in asked
        for (shift, severity), image in zip(conditions, images[task], strict=True)
    ]


def _look(
    asked: tuple[str, list[tuple[str, int]]], cameras: tuple[str, ...], seed: int
) -> list[NDArray[np.uint8]]:
    task, conditions = asked
    world = World(task, cameras, RenderSettings(_SIZE, _SIZE, samples=4))
    images = []
    for shift, severity in conditions:
        world.set_shift(shift, severity)
        world.reset(seed)
        images.append(world.render())
    return images


def _caption(shift: str, severity: int) -> str:
    return "clean" if shift == CLEAN else f"{SHIFTS[shift].magnitudes[severity - 1]:g} {SHIFTS[shift].unit}"


def _clips(films: Sequence[Film], cameras: tuple[str, ...], workers: int) -> list[VideoClip]:
    chosen = choose_films([film for film in films if film.shift == CLEAN or film.shift in SHIFTS])
    frames: dict[int, NDArray[np.uint8]] = {}
    asked = [(i, one.film) for i, one in enumerate(chosen)]
    for (i, _), shown in each(partial(_again, cameras=cameras), asked, workers):
        frames[i] = shown
    return [
        VideoClip(
            policy=one.film.policy,
            shift=one.film.shift,
            severity=one.film.severity,
            seed=one.film.seed,
            success=one.film.success,
            frames=frames[i],
            fps=FPS / _EVERY,
            steps=len(one.film.actions),
            task=one.film.task,
            why=one.why,
        )
        for i, one in enumerate(chosen)
    ]


def _again(asked: tuple[int, Film], cameras: tuple[str, ...]) -> NDArray[np.uint8]:
    """Frames `[T, H, W, 3]` of a filmed episode; physics repeats exactly."""
    film = asked[1]
    world = World(film.task, cameras, RenderSettings(_SIZE, _SIZE, samples=4))
    world.set_shift(film.shift, film.severity)
    world.reset(film.seed)
    frames = [world.render()]
    for i, action in enumerate(film.actions, start=1):
        world.step(action)
        if i % _EVERY == 0 or i == len(film.actions):
            frames.append(world.render())
    return np.stack(frames)
