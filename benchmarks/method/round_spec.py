"""A round of method experiments as it is declared: a TOML file, read and checked before anything runs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.flow import Coupling
from lerobot_policy_dap.worlds.collect import CollectRequest
from lerobot_policy_dap.worlds.play import Play
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.tasks import resolve_task

OWN = ("tasks", "training_seeds", "main", "notes", "arms")
"""What a round that is like another one declares for itself."""


@dataclass(frozen=True)
class Arm:
    """One way of training, or of running what another arm has trained.

    Args:
        policy: `--policy.*` options. Those of dap come over those of the round, and `coupling` is the arm's name if it
            is not given; another `type` of LeRobot's has all its options here.
        weights: the arm whose checkpoints it runs under its own `policy` options, instead of training.
        demos, play: how many of the round's demonstrations and play episodes it learns from; all if None, but that
            no other policy than dap is shown play, which it would imitate.
        steps, batch_size: the round's if None.
    """

    name: str
    policy: dict[str, Any]
    weights: str | None = None
    demos: int | None = None
    play: int | None = None
    steps: int | None = None
    batch_size: int | None = None

    @property
    def type(self) -> str:
        """LeRobot's name of the policy."""
        return str(self.policy.get("type", "dap"))

    @property
    def kind(self) -> str:
        """The coupling of a dap, the type of another policy."""
        return str(self.policy.get("coupling", self.name)) if self.type == "dap" else self.type


@dataclass(frozen=True)
class Round:
    """Everything that decides the results.

    Args:
        main: the arm that the others are compared with.
        policy: `--policy.*` options of all arms that are a dap, but for `coupling`, which is each arm's own.
        noise, detour: of the demonstrations' actions and ways, as `dap collect --noise` and `--detour`.
        expert: whether the scripted expert is evaluated too, once a task.
        lender, lent: the round that this one is like, and those of its arms whose episodes count here too.
        notes: sentences that its table and report are to say, as where episodes of another machine come from.
    """

    name: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    training_seeds: tuple[int, ...]
    demos: int
    steps: int
    factors: tuple[str, ...]
    severities: tuple[int, ...]
    episodes: int
    clean_episodes: int
    play: Play | None = None
    policy: dict[str, Any] | None = None
    main: str = "two_way"
    batch_size: int = 64
    max_steps: int = 300
    cameras: tuple[str, ...] = ("corner2",)
    image_size: int = 84
    noise: float = 0.0
    detour: float = 0.0
    expert: bool = False
    notes: tuple[str, ...] = ()
    lender: str | None = None
    lent: tuple[str, ...] = ()

    @property
    def trained(self) -> list[Arm]:
        """The arms that are trained."""
        return [arm for arm in self.arms if arm.weights is None]

    def weights_of(self, arm: Arm) -> Arm:
        """The arm whose training an arm acts with: itself, or the one that it names."""
        return next(other for other in self.trained if other.name == (arm.weights or arm.name))

    def collection(self, task: str) -> CollectRequest:
        """The demonstrations and the play of a task."""
        settings = RenderSettings(self.image_size, self.image_size)
        return CollectRequest(
            task, self.demos, self.cameras, settings, self.noise, play=self.play, detour=self.detour
        )

    def steps_of(self, arm: Arm) -> int:
        """Training steps of an arm."""
        return self.steps if arm.steps is None else arm.steps

    def play_of(self, arm: Arm) -> int:
        """Play episodes that an arm, or the one whose weights it runs, learns from."""
        arm = self.weights_of(arm)
        if arm.play is not None:
            return arm.play
        return self.play.episodes if arm.type == "dap" and self.play is not None else 0

    def train_flags(self, arm: Arm) -> dict[str, object]:
        """Flags of `dap train` that the declaration decides, but for steps and seed."""
        demos = self.demos if arm.demos is None else arm.demos
        chosen = [*range(demos), *range(self.demos, self.demos + self.play_of(arm))]
        policy = arm.policy if arm.type != "dap" else {"coupling": arm.kind, **(self.policy or {}), **arm.policy}
        return {
            "batch_size": self.batch_size if arm.batch_size is None else arm.batch_size,
            "dataset.episodes": json.dumps(chosen).replace(" ", ""),
            **{f"policy.{name}": _flag(value) for name, value in policy.items()},
        }


def read_round(path: Path) -> Round:
    """The round that a TOML file declares, named after the file.

    `like = "ROUND"` takes everything but `OWN` from the file of that name beside it, `lent = ["ARM", ...]` arms of it.

    Raises:
        UserError: a file is missing or no TOML, or an entry is missing, unknown or impossible.
    """
    content = _content(path)
    if "like" in content or "lent" in content:
        content = _like(path, content)
    arms = tuple(_arm(path, name, dict(entries)) for name, entries in content.pop("arms", {}).items())
    play = content.pop("play", None)
    if play is not None:
        play = _made(path, Play, {key: _fixed(value) for key, value in play.items()})
    entries = {key: _fixed(value) for key, value in content.items()}
    made: Round = _made(path, Round, {**entries, "name": path.stem, "arms": arms, "play": play})
    _check(path, made)
    return made


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is no TOML ({error})") from error


def _like(path: Path, content: dict[str, Any], behind: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the round declares together with the one that it is like; `behind` are rounds that are like it."""
    lender, lent = content.pop("like", None), content.pop("lent", [])
    if lender is None:
        raise UserError(f"{path}: arms are lent, but no round says `like`")
    behind = (*behind, path.stem)
    if lender in behind:
        raise UserError(f"{path}: {lender} would be like itself")
    lending = path.with_name(f"{lender}.toml")
    base = _content(lending)
    theirs, mine = base.get("arms", {}), content.pop("arms", {})
    if "like" in base:  # what it borrows is not its to lend
        base = _like(lending, base, behind)
    for name in lent:
        if name not in theirs or name in mine:
            what = "is declared here too" if name in mine else f"is none of {lender}'s own"
            raise UserError(f"{path}: the lent arm {name!r} {what}")
    for name in content:  # episodes of arms that had other data or options would not compare
        if name not in OWN:
            raise UserError(f"{path}: {name!r} is as in {lender}, and cannot be given; own are: {', '.join(OWN)}")
    given = {name: value for name, value in base.items() if name not in ("main", "notes", "lender", "lent")}
    arms = {name: theirs[name] for name in lent} | mine
    return given | content | {"arms": arms, "lender": lender, "lent": lent}


def _arm(path: Path, name: str, entries: dict[str, Any]) -> Arm:
    own = {field.name: entries.pop(field.name) for field in fields(Arm)[2:] if field.name in entries}
    return Arm(name, entries, **own)


def _check(path: Path, asked: Round) -> None:
    for task in asked.tasks:
        resolve_task(task)
    names = [arm.name for arm in asked.arms]
    couplings = [asked.main, *(arm.weights for arm in asked.arms if arm.weights is not None)]
    for name in couplings:
        if name not in names:
            raise UserError(f"{path}: there is no arm {name!r}; there is: {', '.join(names) or 'none'}")
    if "coupling" in (asked.policy or {}):
        raise UserError(f"{path}: [policy] has a coupling; give it to the arms")
    trained = [arm.name for arm in asked.trained]
    for arm in asked.arms:
        if arm.weights is not None and arm.weights not in trained:
            raise UserError(f"{path}: arm {arm.name} runs the weights of {arm.weights}, which is not trained")
        if arm.type == "dap" and arm.kind not in list(Coupling):
            raise UserError(f"{path}: arm {arm.name} has no coupling; choose one of: {', '.join(Coupling)}")
        most = 0 if asked.play is None else asked.play.episodes
        for what, wanted, there in (("demos", arm.demos, asked.demos), ("play", arm.play, most)):
            if wanted is not None and not 0 <= wanted <= there:
                raise UserError(f"{path}: arm {arm.name} asks for {what} = {wanted}; the round has {there}")


def _made(path: Path, kind: Any, entries: dict[str, Any]) -> Any:
    known = [field.name for field in fields(kind)]
    for name in entries:
        if name not in known:
            raise UserError(f"{path}: unknown entry {name!r}; known: {', '.join(known)}")
    try:
        return kind(**entries)
    except TypeError as error:  # one is missing
        raise UserError(f"{path}: {error}") from error


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _flag(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "")
