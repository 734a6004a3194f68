"""What is probed: policies, frames of held-out episodes, and cells of factor, severity and camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .factors import CLEAN, check_factors

ALL_CAMERAS = "all"
"""Every camera of a policy shifted at once."""


@dataclass(frozen=True)
class Named:
    """A checkpoint folder under the name that the report gives it."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Request:
    """What a run is asked to do.

    Attributes:
        root, repo_id: the dataset.
        episodes: whose frames are shown.
        frames: how many in all, spread over the episodes.
        draws: further noise draws on each clean frame, from which a policy's own spread is measured.
        batch: frames that share a policy call; part of what a policy's noise depends on.
        seed: of the shifts' places and of the policies' noise.
    """

    policies: tuple[Named, ...]
    root: Path
    repo_id: str
    episodes: tuple[int, ...]
    factors: tuple[str, ...]
    severities: tuple[int, ...]
    frames: int = 100
    draws: int = 4
    batch: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        check_factors(self.factors, self.severities)
        names = [policy.name for policy in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two policies are named {name!r}; name them: NAME=CHECKPOINT")
            if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
                raise UserError(f"policy name {name!r} must be made of letters, digits, '-', '_' and '.'")
        for option, value in (("frames", self.frames), ("draws", self.draws), ("batch", self.batch)):
            if value < 1:
                raise UserError(f"--{option} is {value}; it must be at least 1")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True)
class Cell:
    """One policy on all frames under one condition: the piece of work that is kept or repeated whole."""

    policy: Named
    factor: str
    severity: int
    camera: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing is shifted."""
        return self.factor == CLEAN

    @property
    def part(self) -> str:
        """Where its measurements are kept, below the parts' folder."""
        return (
            f"{self.policy.name}/{CLEAN if self.is_clean else f'{self.factor}-{self.severity}-{self.camera}'}.npz"
        )


def clean_cell(policy: Named) -> Cell:
    """The cell that all others of a policy are compared with."""
    return Cell(policy, CLEAN, 0, ALL_CAMERAS)


def shifted_cells(request: Request, policy: Named, cameras: Sequence[str]) -> Iterator[Cell]:
    """Every factor and severity on all cameras at once, and on each alone where there are several."""
    for factor in request.factors:
        for severity in sorted(request.severities):
            for camera in (ALL_CAMERAS, *(cameras if len(cameras) > 1 else ())):
                yield Cell(policy, factor, severity, camera)
