"""`dap demo`, `dap collect` and `dap train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..progress import bars
from .options import Workers, numbers, words


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("outputs/demo"),
    task: Annotated[str, typer.Option(help="Meta-World task.")] = "drawer-open",
    demonstrations: Annotated[int, typer.Option(help="Expert demonstrations to collect.")] = 40,
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = 1500,
    episodes: Annotated[int, typer.Option(help="Held-out episodes of each shifted cell.")] = 20,
    clean_episodes: Annotated[int, typer.Option(help="Held-out episodes of the clean cell.")] = 50,
    severity: Annotated[str, typer.Option(help="Severities, separated by commas.")] = "2,4",
    workers: Workers = None,
) -> None:
    """Collect, train, evaluate, report: the whole path in one command, in four to eleven minutes on two cores."""
    from ..demo import Demo
    from ..demo import demo as run_demo

    asked = Demo(
        task=task,
        demonstrations=demonstrations,
        steps=steps,
        episodes=episodes,
        clean_episodes=clean_episodes,
        severities=numbers(severity),
    )
    report = run_demo(asked, out, workers)
    print(f"report: {report}")


def collect(
    task: Annotated[str | None, typer.Option(help="Meta-World task, with or without -v3.")] = None,
    episodes: Annotated[int, typer.Option(help="Successful demonstrations.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder of the LeRobotDataset; data/TASK if not given.")] = None,
    noise: Annotated[float, typer.Option(help="Standard deviation of action noise, in action units.")] = 0.0,
    detour: Annotated[
        float,
        typer.Option(
            help="Metres by which half of them go to the right on their way to the object, half to the left."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    play: Annotated[
        str,
        typer.Option(help="Kinds of play to collect beside them: expert, noisy, perturbed, random, reset_free."),
    ] = "",
    play_episodes: Annotated[int, typer.Option(help="Play episodes, of all kinds together.")] = 50,
    varied: Annotated[str, typer.Option(help="Factors of shift under which play is seen, one an episode.")] = "",
    varied_share: Annotated[float, typer.Option(help="Share of the play that is seen so.")] = 1.0,
    camera: Annotated[str, typer.Option(help="Cameras, separated by commas.")] = "corner2",
    image_size: Annotated[int, typer.Option(help="Side of the frames in pixels.")] = 84,
    samples: Annotated[int, typer.Option(help="Samples a pixel for anti-aliasing.")] = 0,
    shadows: Annotated[bool, typer.Option(help="Render shadows (ten times slower on a CPU).")] = False,
    reflections: Annotated[bool, typer.Option(help="Render reflections.")] = False,
    workers: Workers = None,
    list_tasks: Annotated[bool, typer.Option("--list-tasks", help="List the tasks and leave.")] = False,
) -> None:
    """Demonstrations of a scripted expert, and play beside them, as a LeRobotDataset v3."""
    from ..worlds.collect import CollectRequest
    from ..worlds.collect import collect as run_collect
    from ..worlds.play import Play
    from ..worlds.rendering import RenderSettings

    if list_tasks:
        _print_tasks()
        return
    if task is None:
        raise UserError("--task is missing; `dap collect --list-tasks` lists them")
    if varied and not play:
        raise UserError("--varied says how play is seen; name some with --play")
    request = CollectRequest(
        task,
        episodes,
        tuple(words(camera)),
        RenderSettings(image_size, image_size, samples, shadows, reflections),
        noise,
        seed,
        Play(tuple(words(play)), play_episodes, tuple(words(varied)), varied_share) if play else None,
        detour,
    )
    with bars() as bar:
        made = run_collect(request, out or Path("data") / request.task.removesuffix("-v3"), bar, workers)
    failed = f"; the expert failed at seeds {', '.join(map(str, made.failed_seeds))}" if made.failed_seeds else ""
    again = " (it was there already)" if made.reused else ""
    beside = f" and {request.play.episodes} play episodes" if request.play else ""
    print(f"{made.episodes} demonstrations{beside} of {request.task} in {made.out}{again}{failed}")


def train(
    context: typer.Context,
    frames_dir: Annotated[Path | None, typer.Option(help="Where decoded frames are kept.")] = None,
) -> None:
    """Train with the flags of lerobot-train (`dap train --help` shows them), from decoded frames."""
    from ..train.command import run

    if {"-h", "--help"} & {*context.args}:
        print("--frames-dir PATH: where decoded frames are kept. All other flags are those of lerobot-train; with")
        print("--policy.type=dap before --help, those of the policy too:\n")
    print(f"checkpoint: {run(context.args, frames_dir)}")


def _print_tasks() -> None:
    from ..worlds.tasks import description, difficulty, tasks

    order = ("easy", "medium", "hard", "very_hard")
    table = Table("task", "difficulty", "what to do", box=None)
    for task in sorted(tasks(), key=lambda t: (order.index(difficulty(t)), t)):
        table.add_row(task.removesuffix("-v3"), difficulty(task), description(task))
    Console(width=100).print(table)
