"""The `dap` command: one function a verb, each as thin as it can be."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .errors import UserError
from .files import is_disk_full
from .progress import StageTimes, bars, console

app = typer.Typer(
    help="Dynamics-aligned flow matching policies for LeRobot, and what any policy does under visual shift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Workers = Annotated[int | None, typer.Option(help="Processes; one a core if not given.")]


@app.command()
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
    """Collect, train, evaluate, report: the whole path in one command, within ten minutes on two cores."""
    from .demo import Demo
    from .demo import demo as run_demo

    asked = Demo(
        task=task,
        demonstrations=demonstrations,
        steps=steps,
        episodes=episodes,
        clean_episodes=clean_episodes,
        severities=_numbers(severity),
    )
    report = run_demo(asked, out, workers)
    print(f"report: {report}")


@app.command()
def collect(
    task: Annotated[str | None, typer.Option(help="Meta-World task, with or without -v3.")] = None,
    episodes: Annotated[int, typer.Option(help="Successful demonstrations.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder of the LeRobotDataset; data/TASK if not given.")] = None,
    noise: Annotated[float, typer.Option(help="Standard deviation of action noise, in action units.")] = 0.0,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    camera: Annotated[str, typer.Option(help="Cameras, separated by commas.")] = "corner2",
    image_size: Annotated[int, typer.Option(help="Side of the frames in pixels.")] = 84,
    samples: Annotated[int, typer.Option(help="Samples a pixel for anti-aliasing.")] = 0,
    shadows: Annotated[bool, typer.Option(help="Render shadows (ten times slower on a CPU).")] = False,
    reflections: Annotated[bool, typer.Option(help="Render reflections.")] = False,
    workers: Workers = None,
    list_tasks: Annotated[bool, typer.Option("--list-tasks", help="List the tasks and leave.")] = False,
) -> None:
    """Demonstrations of a scripted expert, as a LeRobotDataset v3."""
    from .worlds.collect import CollectRequest
    from .worlds.collect import collect as run_collect
    from .worlds.rendering import RenderSettings

    if list_tasks:
        _print_tasks()
        return
    if task is None:
        raise UserError("--task is missing; `dap collect --list-tasks` lists them")
    request = CollectRequest(
        task,
        episodes,
        tuple(name.strip() for name in camera.split(",") if name.strip()),
        RenderSettings(image_size, image_size, samples, shadows, reflections),
        noise,
        seed,
    )
    with bars() as bar:
        made = run_collect(request, out or Path("data") / request.task.removesuffix("-v3"), bar, workers)
    failed = f"; the expert failed at seeds {', '.join(map(str, made.failed_seeds))}" if made.failed_seeds else ""
    again = " (it was there already)" if made.reused else ""
    print(f"{made.episodes} demonstrations of {request.task} in {made.out}{again}{failed}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def train(
    context: typer.Context,
    frames_dir: Annotated[Path | None, typer.Option(help="Where decoded frames are kept.")] = None,
) -> None:
    """Train with the flags of lerobot-train (`dap train --help` shows them), from decoded frames."""
    from .train.command import run

    print(f"checkpoint: {run(context.args, frames_dir)}")


@app.command(name="eval")
def evaluate(
    policy: Annotated[
        list[str], typer.Option(help="NAME=CHECKPOINT, or a checkpoint; several times for several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for results and report.")],
    task: Annotated[str, typer.Option(help="Meta-World task.")] = "drawer-open",
    shift: Annotated[str, typer.Option(help="Shifts, separated by commas; `all`, or `none`.")] = "all",
    severity: Annotated[str, typer.Option(help="Severities from 1 to 5, separated by commas.")] = "2,4",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of a shifted cell.")] = 20,
    clean_episodes: Annotated[
        int | None, typer.Option(help="Of the clean cell; as --episodes if not given.")
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Steps after which an episode has failed.")] = 300,
    batch: Annotated[int, typer.Option(help="Episodes that share a policy call.")] = 10,
    first_seed: Annotated[int, typer.Option(help="First held-out seed.")] = 10_000,
    device: Annotated[str | None, typer.Option(help="Where policies compute; a GPU if there is one.")] = None,
    workers: Workers = None,
) -> None:
    """Any LeRobot checkpoint on held-out episodes, clean, blind and under visual shift, with a report."""
    from .bench.plan import make_plan
    from .bench.publish import publish
    from .bench.run import run
    from .processes import default_device, default_workers
    from .worlds.shifts import CLEAN, SHIFTS

    shifts = list(SHIFTS) if shift == "all" else [name for name in _words(shift) if name != CLEAN]
    plan = make_plan(
        [_named(text) for text in policy],
        task,
        shifts,
        _numbers(severity),
        episodes=episodes,
        clean_episodes=clean_episodes or episodes,
        max_steps=max_steps,
        batch=batch,
        first_seed=first_seed,
        device=device or default_device(),
    )
    workers = workers or default_workers()
    times = StageTimes(out / "eval" / "stages.json")
    with bars() as bar:
        with times.stage("evaluate"):
            done, films = run(plan, out / "eval", workers, partial(bar, "evaluating"))
        results = publish(
            plan,
            done,
            films,
            out,
            title=f"{plan.task.removesuffix('-v3')} under visual shift",
            command=shlex.join(["dap", *sys.argv[1:]]),
            stages=times.rows(),
            workers=workers,
        )
    table = Table("policy", "shift", "severity", "success", "95 % interval", box=None)
    for cell in results["cells"]:
        rate = f"{cell['successes']}/{cell['n']}"
        interval = f"{100 * cell['low']:.0f} to {100 * cell['high']:.0f} %"
        table.add_row(cell["policy"], cell["shift"], str(cell["severity"]), rate, interval)
    console.print(table)
    print(f"report: {out / 'report.html'}")


def _named(text: str) -> Any:
    from .bench.plan import Policy as Named

    name, separator, path = text.partition("=")
    if separator:
        return Named(name, Path(path))
    folder = Path(text)
    generic = ("pretrained_model", "last", "checkpoints")
    return Named(next((part for part in reversed(folder.parts) if part not in generic), "policy"), folder)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise UserError(f"--severity is {text!r}; give whole numbers separated by commas, such as 2,4") from None


def _print_tasks() -> None:
    from .worlds.tasks import description, difficulty, tasks

    order = ("easy", "medium", "hard", "very_hard")
    table = Table("task", "difficulty", "what to do", box=None)
    for task in sorted(tasks(), key=lambda t: (order.index(difficulty(t)), t)):
        table.add_row(task.removesuffix("-v3"), difficulty(task), description(task))
    Console(width=100).print(table)


def main() -> None:
    """The entry point: a `UserError` is one line and status 2, an interruption one line and status 130."""
    _quiet()
    try:
        app(standalone_mode=False)
    except UserError as error:
        sys.exit(_failed(str(error), 2))
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_failed("interrupted; what is finished is kept: run the same command to go on", 130))
    except Exception as error:
        if is_disk_full(error):
            sys.exit(
                _failed(f"no space left on the disk; what is finished is kept: free some and go on ({error})", 2)
            )
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # Typer's own, such as an unknown option
            error.show()
            sys.exit(error.exit_code)
        raise


def _failed(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _quiet() -> None:
    """Other libraries' chatter, which would tear the progress bars apart."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("SVT_LOG", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.filterwarnings("ignore")
    logging.getLogger("libav").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
