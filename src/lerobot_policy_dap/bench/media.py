"""Pictures and clips as the report embeds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import words
from .episodes import BLIND, CLEAN
from .video import data_uri, encode_video, encode_webp


@dataclass(frozen=True, slots=True, eq=False)
class StripImage:
    """What a shift looks like: the first frame of one seed, uint8 `[H, W, 3]`.

    `shift` and `severity` are as in `Episode`; the caption may say more, such as the magnitude. `task` may be left
    out where there is only one.
    """

    shift: str
    severity: int
    caption: str
    image: NDArray[np.uint8]
    task: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class VideoClip:
    """One filmed episode: frames uint8 `[T, H, W, 3]` at `fps`, with what became of it.

    Clips of equal task, policy and seed stand beside one another in the report. `why` says by which rule it was
    chosen.
    """

    policy: str
    shift: str
    severity: int
    seed: int
    success: bool
    frames: NDArray[np.uint8]
    fps: float
    steps: int | None = None
    task: str = ""
    why: str = ""


def gallery(images: Sequence[StripImage], shifts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Images by task and shift: clean first, then in the order of the shifts, each by severity."""
    rank = {CLEAN: -1} | {str(shift["name"]): i for i, shift in enumerate(shifts)}
    physical = {str(shift["name"]) for shift in shifts if shift.get("physical")}
    tasks = list(dict.fromkeys(image.task for image in images))
    groups: dict[tuple[str, str], list[StripImage]] = {}
    order = sorted(
        images,
        key=lambda i: (
            tasks.index(i.task),
            i.shift in physical,
            rank.get(i.shift, len(rank)),
            i.shift,
            i.severity,
        ),
    )
    for image in order:
        groups.setdefault((image.task, image.shift), []).append(image)
    return [
        {
            "task": task,
            "shift": shift,
            "title": words.condition(shift, 0) if shift in (CLEAN, BLIND) else words.factor(shift),
            "physical": shift in physical,
            "images": [_image(image) for image in group],
        }
        for (task, shift), group in groups.items()
    ]


def encoded_clips(videos: Sequence[VideoClip], room: int) -> tuple[list[dict[str, Any]], int]:
    """The clips by task, policy and seed, and how many there was no room for.

    Args:
        videos: in the order in which they are shown. Where room is short, every policy and task keeps its first
            clips rather than the first policy all of its own.
        room: bytes of HTML that they may take.
    """
    rank: dict[tuple[str, str], int] = {}
    turns = []
    for position, clip in enumerate(videos):
        turn = rank[clip.task, clip.policy] = rank.get((clip.task, clip.policy), -1) + 1
        turns.append((turn, position))
    kept: dict[int, dict[str, Any]] = {}
    for _, position in sorted(turns):
        encoded = _clip(videos[position])
        size = len(encoded["uri"]) + len(encoded["poster"]) + _MARKUP
        if size <= room:
            room -= size
            kept[position] = encoded
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for position in sorted(kept):
        clip = videos[position]
        groups.setdefault((clip.task, clip.policy, clip.seed), []).append(kept[position])
    rows = [
        {"task": task, "policy": policy, "seed": seed, "clips": clips}
        for (task, policy, seed), clips in groups.items()
    ]
    return rows, len(videos) - len(kept)


_MARKUP = 1500
"""At most so many bytes of HTML stand around a clip."""


def _image(image: StripImage) -> dict[str, Any]:
    return {
        "alt": f"{words.condition(image.shift, image.severity)}: {image.caption}",
        "severity": image.severity,
        "caption": image.caption,
        "uri": data_uri("image/webp", encode_webp(image.image)),
        "width": image.image.shape[1],
        "height": image.image.shape[0],
    }


def _clip(clip: VideoClip) -> dict[str, Any]:
    mime, content = encode_video(clip.frames, clip.fps)
    outcome = "success" if clip.success else "failure"
    return {
        "shift": clip.shift,
        "severity": clip.severity,
        "uri": data_uri(mime, content),
        "poster": data_uri("image/webp", encode_webp(clip.frames[0], quality=60)),
        "label": f"{clip.policy} {words.under(clip.shift, clip.severity)}, seed {clip.seed}: {outcome}",
        "outcome": outcome,
        "why": clip.why,
        "steps": None if clip.steps is None else words.counted(clip.steps, "step"),
        "width": clip.frames.shape[2],
        "height": clip.frames.shape[1],
    }
