"""Synthetic but realistic evaluations, for the tests and for looking at the page.

`python tests/bench/synthetic_bench.py page.html [--grid]` writes the sample report.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lerobot_policy_dap.bench.episodes import BLIND, CLEAN, Episode
from lerobot_policy_dap.bench.films import choose_films
from lerobot_policy_dap.bench.report import StripImage, VideoClip, write_report
from lerobot_policy_dap.bench.results import summarise

TASK = "button-press-topdown-v3"
MAX_STEPS = 200
VERSIONS = "lerobot 0.6.1, metaworld 3.0.0, mujoco 3.8.1, torch 2.11.0"
SHIFTS: list[dict[str, Any]] = [
    {"name": "light_intensity", "quantity": "ambient and diffuse light", "unit": "x", "magnitudes": [0.8, 0.6, 0.4, 0.25, 0.1]},
    {"name": "light_direction", "quantity": "angle from the training light", "unit": "deg", "magnitudes": [15, 30, 45, 60, 75]},
    {"name": "table_color", "quantity": "distance in CIELAB", "unit": "ΔE", "magnitudes": [10, 20, 35, 50, 70]},
    {"name": "object_color", "quantity": "distance in CIELAB", "unit": "ΔE", "magnitudes": [10, 20, 35, 50, 70]},
    {"name": "distractors", "quantity": "unseen objects on the table", "unit": "objects", "magnitudes": [1, 2, 4, 6, 9]},
]  # fmt: skip
SEVERITIES = (2, 4)
# Logit of the mean success at severity 0, and its slope per severity, for each policy and shift.
CLEAN_LOGIT = {"none": 2.9, "two_way": 3.2}
SLOPE = {
    "light_intensity": {"none": -0.75, "two_way": -0.55},
    "light_direction": {"none": -0.35, "two_way": -0.35},
    "table_color": {"none": -0.9, "two_way": -0.5},
    "object_color": {"none": -0.45, "two_way": -0.5},
    "distractors": {"none": -1.55, "two_way": -1.05},
}
BLIND_LOGIT = -2.2


def make_episodes(
    *, clean: int = 50, shifted: int = 20, blind: int = 20, task: str = TASK, seed: int = 0
) -> list[Episode]:
    """Two policies, five shifts at two severities; success shares a difficulty per seed, so that pairs correlate."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.2, size=max(clean, shifted, blind))
    episodes = []
    for policy in CLEAN_LOGIT:
        cells = [(CLEAN, 0, clean, CLEAN_LOGIT[policy]), (BLIND, 0, blind, BLIND_LOGIT)]
        cells += [
            (shift, severity, shifted, CLEAN_LOGIT[policy] + slope[policy] * severity)
            for shift, slope in SLOPE.items()
            for severity in SEVERITIES
        ]
        for shift, severity, count, logit in cells:
            for i in range(count):
                success = bool(rng.random() < 1 / (1 + math.exp(-logit - difficulty[i])))
                steps = int(rng.integers(55, 130)) if success else MAX_STEPS
                episodes.append(
                    Episode(
                        policy=policy,
                        task=task,
                        shift=shift,
                        severity=severity,
                        seed=10_000 + i,
                        success=success,
                        steps=steps,
                        episode_return=round(float(rng.normal(900 if success else 250, 60)), 3),
                        plan_ms=float(rng.normal(3.1 if policy == "none" else 7.4, 0.2)),
                        checkpoint=("3f9c" if policy == "none" else "b27e") * 16,
                        versions=VERSIONS,
                    )
                )
    return episodes


def make_meta() -> dict[str, Any]:
    common = {"type": "dap", "train_steps": 20_000, "train_seed": 0}
    return {
        "title": "Robustness of two DAP arms on button-press-topdown",
        "command": "dap bench --policy none=outputs/none --policy two_way=outputs/two_way "
        "--task button-press-topdown-v3 --shifts all --severities 2,4 --episodes 20 --clean-episodes 50 --seed 10000",
        "created": "2026-11-23 14:05 UTC",
        "versions": VERSIONS,
        "hardware": "NVIDIA H100 80GB HBM3 (training), 16 CPU cores, OSMesa rendering",
        "task": TASK,
        "max_steps": MAX_STEPS,
        "policies": [
            {
                **common,
                "name": "none",
                "coupling": "none",
                "checkpoint": "3f9c" * 16,
                "parameters": 4_812_036,
                "diagnostics": {
                    "latent effective rank": 21.4,
                    "image use (share of latent variance)": 0.712,
                    "validation loss": 0.0431,
                    "target spread": 0.98,
                    "action-conditioned gain": float("nan"),
                },
            },
            {
                **common,
                "name": "two_way",
                "coupling": "two_way",
                "checkpoint": "b27e" * 16,
                "parameters": 4_812_036,
                "diagnostics": {
                    "latent effective rank": 24.9,
                    "image use (share of latent variance)": 0.684,
                    "validation loss": 0.0418,
                    "target spread": 1.01,
                    "action-conditioned gain": 3.2,
                    "dynamics skill against no change": 0.61,
                },
            },
        ],
        "stages": [
            {"name": "demonstrations", "seconds": 412.0},
            {"name": "train none", "seconds": 1830.4},
            {"name": "train two_way", "seconds": 2417.9},
            {"name": "evaluation", "seconds": 3675.2},
            {"name": "report", "seconds": 8.3},
        ],
        "shifts": SHIFTS,
        "notes": ["Both policies saw the same 100 demonstrations, in the same order."],
    }


def render(shift: str, severity: int, t: float, rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """A toy table-top scene, uint8 `[size, size, 3]`: enough like a rendering to judge the page by."""
    y, x = np.mgrid[0:size, 0:size] / size
    table = np.array([150.0, 116.0, 84.0])
    button = np.array([190.0, 40.0, 40.0])
    if shift == "table_color":
        table = table + severity * np.array([-24.0, 2.0, 22.0])
    if shift == "object_color":
        button = button + severity * np.array([-34.0, 22.0, 14.0])
    image = np.where((y > 0.38)[..., None], table * (0.8 + 0.3 * y[..., None]), np.array([196.0, 202.0, 208.0]))
    image = image + 7 * np.sin(70 * x + 9 * np.sin(12 * y))[..., None] * (y > 0.38)[..., None]
    for _ in range(2 * severity if shift == "distractors" else 0):
        cx, cy, r = rng.uniform(0.08, 0.92), rng.uniform(0.5, 0.95), rng.uniform(0.03, 0.08)
        image[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(30, 230, size=3)
    image[(abs(x - 0.52) < 0.13) & (abs(y - 0.72) < 0.09)] = [205, 186, 60]
    image[(x - 0.52) ** 2 + ((y - 0.66) * 1.6) ** 2 < 0.055**2] = button
    arm_x, arm_y = 0.18 + 0.34 * t, 0.30 + 0.26 * t
    image[(abs(x - arm_x) < 0.045) & (y < arm_y)] = [58, 60, 66]
    image[(abs(x - arm_x) < 0.075) & (abs(y - arm_y) < 0.03)] = [36, 37, 42]
    if shift == "light_intensity":
        image = image * (1 - 0.19 * severity)
    if shift == "light_direction":
        image = image * (1 - 0.16 * severity * (x - 0.35))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def make_strip() -> list[StripImage]:
    rng = np.random.default_rng(1)
    strip = [StripImage(CLEAN, 0, "as in training", render(CLEAN, 0, 0.3, rng))]
    for shift in SHIFTS:
        for severity in SEVERITIES:
            caption = f"{shift['magnitudes'][severity - 1]} {shift['unit']}"
            strip.append(StripImage(shift["name"], severity, caption, render(shift["name"], severity, 0.3, rng)))
    return strip


def make_videos(episodes: list[Episode], seconds: float = 2.0, fps: int = 12) -> list[VideoClip]:
    conditions = [(CLEAN, 0), ("table_color", 4), ("light_intensity", 4), ("distractors", 4)]
    clips = []
    for policy in CLEAN_LOGIT:
        for shift, severity in conditions:
            [episode] = [
                e for e in episodes if (e.policy, e.shift, e.severity, e.seed) == (policy, shift, severity, 10_003)
            ]
            count = max(round(seconds * fps * episode.steps / MAX_STEPS), 2)
            reach = 1.0 if episode.success else 0.55
            frames = [
                render(shift, severity, reach * i / count, np.random.default_rng(7), size=160)
                for i in range(count)
            ]
            clips.append(
                VideoClip(
                    policy,
                    shift,
                    severity,
                    episode.seed,
                    episode.success,
                    np.stack(frames),
                    fps,
                    steps=episode.steps,
                )
            )
    return clips


# A grid as `dap bench run` makes it: several tasks, policies, training seeds, and the scripted expert.
GRID_TASKS = {"button-press-topdown-v3": 0.6, "drawer-open-v3": 0.0, "pick-place-v3": -1.6}
GRID_POLICIES = {"act": (1.9, 1.15), "diffusion": (1.6, 0.9), "dap_none": (2.0, 1.0), "dap_two_way": (2.3, 0.75)}
"""For each policy, the logit of clean success and how strongly shifts act on it."""
GRID_SHIFTS: list[dict[str, Any]] = [
    {**SHIFTS[0], "strength": 0.35},
    {"name": "light_dimmer", "quantity": "multiplier on ambient and diffuse", "unit": "x", "magnitudes": [0.8, 0.6, 0.45, 0.3, 0.15], "strength": 0.4},
    {**SHIFTS[1], "strength": 0.2},
    {"name": "light_color", "quantity": "correlated colour temperature", "unit": "K", "magnitudes": [5500, 4500, 3600, 2900, 2400], "strength": 0.25},
    {**SHIFTS[2], "strength": 0.55},
    {"name": "background", "quantity": "distance in CIELAB", "unit": "ΔE", "magnitudes": [10, 20, 35, 50, 70], "strength": 0.3},
    {**SHIFTS[3], "strength": 0.35},
    {**SHIFTS[4], "strength": 0.9},
    {"name": "camera_pose", "quantity": "distance and angle", "unit": "cm", "magnitudes": [1, 2, 4, 7, 12], "strength": 0.95},
    {"name": "sensor_noise", "quantity": "standard deviation", "unit": "of 255", "magnitudes": [4, 8, 16, 28, 45], "strength": 0.5},
    {"name": "sensor_blur", "quantity": "radius", "unit": "px", "magnitudes": [0.5, 1, 1.5, 2.2, 3], "strength": 0.3},
    {"name": "combined", "quantity": "all of the above", "unit": "severity", "magnitudes": [1, 2, 3, 4, 5], "strength": 1.5},
    {"name": "object_size", "quantity": "scale of the object", "unit": "x", "magnitudes": [0.95, 0.9, 0.82, 0.74, 0.65], "strength": 0.3, "physical": True},
]  # fmt: skip


def make_grid(
    *,
    episodes: int = 20,
    clean: int = 30,
    training_seeds: int = 3,
    tasks: Sequence[str] = tuple(GRID_TASKS),
    severities: Sequence[int] = (1, 3, 5),
    policies: Sequence[str] = (*GRID_POLICIES, "expert"),
    worse: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Episode]:
    """A whole grid; `worse` takes that many logits from success under a shift (or "none"), for a later result set."""
    found = []
    for task in tasks:
        difficulty = np.random.default_rng([seed, len(task)]).normal(0, 1.0, size=max(episodes, clean))
        for policy in policies:
            for training_seed in range(1 if policy == "expert" else training_seeds):
                rng = np.random.default_rng([seed, len(task), zlib.crc32(policy.encode()), training_seed])
                luck = rng.normal(0, 0.35)
                cells = [(CLEAN, 0, 0.0, clean)] + ([] if policy == "expert" else [(BLIND, 0, 0.0, episodes)])
                cells += [
                    (s["name"], severity, s["strength"] * severity, episodes)
                    for s in GRID_SHIFTS
                    for severity in severities
                ]
                for shift, severity, strength, count in cells:
                    if policy == "expert":
                        logit = 5.0 - (1.2 * severity if shift == "object_size" else 0.0)
                    elif shift == BLIND:
                        logit = BLIND_LOGIT
                    else:
                        base, slope = GRID_POLICIES[policy]
                        logit = base + GRID_TASKS[task] + luck - slope * strength
                    logit -= (worse or {}).get(shift, 0.0)
                    for i in range(count):
                        success = bool(rng.random() < 1 / (1 + math.exp(-logit - difficulty[i])))
                        found.append(
                            Episode(
                                policy=policy,
                                task=task,
                                shift=shift,
                                severity=severity,
                                seed=10_000 + i,
                                success=success,
                                steps=int(rng.integers(55, 130)) if success else MAX_STEPS,
                                episode_return=0.0,
                                plan_ms=float(rng.normal(4, 0.3)),
                                checkpoint=f"{zlib.crc32(f'{policy}{training_seed}'.encode()):08x}" * 8,
                                versions=VERSIONS,
                                training_seed=training_seed,
                            )
                        )
    return found


def make_grid_meta() -> dict[str, Any]:
    return make_meta() | {
        "title": "Three tasks, four policies, thirteen factors",
        "command": "dap bench run --policy act=outputs/act --policy diffusion=outputs/diffusion --out outputs/bench",
        "task": None,
        "policies": [{"name": name, "type": name} for name in (*GRID_POLICIES, "expert")],
        "shifts": [{k: v for k, v in shift.items() if k != "strength"} for shift in GRID_SHIFTS],
    }


def make_grid_strip(severities: Sequence[int] = (1, 3, 5)) -> list[StripImage]:
    rng = np.random.default_rng(1)
    strip = []
    for task in GRID_TASKS:
        strip.append(StripImage(CLEAN, 0, "as in training", render(CLEAN, 0, 0.3, rng), task))
        for shift in GRID_SHIFTS:
            for severity in severities:
                caption = f"{shift['magnitudes'][severity - 1]} {shift['unit']}"
                image = render(shift["name"], severity, 0.3, rng)
                strip.append(StripImage(shift["name"], severity, caption, image, task))
    return strip


def make_grid_videos(
    episodes: Sequence[Episode],
    factors: Sequence[str] = ("distractors", "table_color", "sensor_noise"),
    fps: int = 12,
) -> list[VideoClip]:
    """What the rule of `choose_films` picks, had the first four seeds of these factors been filmed."""
    filmed = [e for e in episodes if e.seed < 10_004 and e.shift in (CLEAN, *factors)]
    clips = []
    for chosen in choose_films(filmed):
        episode = chosen.film
        count = 20 if episode.success else 30
        frames = [
            render(
                episode.shift,
                episode.severity,
                (1.0 if episode.success else 0.5) * i / count,
                np.random.default_rng(7),
            )
            for i in range(count)
        ]
        clips.append(
            VideoClip(
                episode.policy, episode.shift, episode.severity, episode.seed, episode.success, np.stack(frames), fps,
                steps=episode.steps, task=episode.task, why=chosen.why,
            )
        )  # fmt: skip
    return clips


if __name__ == "__main__":
    if "--grid" in sys.argv:
        sample = make_grid()
        write_report(
            Path(sys.argv[1]), summarise(sample, make_grid_meta()), make_grid_strip(), make_grid_videos(sample)
        )
    else:
        sample = make_episodes()
        write_report(Path(sys.argv[1]), summarise(sample, make_meta()), make_strip(), make_videos(sample))
