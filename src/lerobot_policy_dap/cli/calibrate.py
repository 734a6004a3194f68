"""`dap calibrate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..progress import bars
from .options import Workers, chosen_device


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of any LeRobot policy, or a training run.")],
    rollouts: Annotated[
        int, typer.Option(help="Clean simulated episodes; those that succeed are calibrated on.")
    ] = 100,
    task: Annotated[
        str | None, typer.Option(help="Meta-World task of the roll-outs; the one it was trained on if not given.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="LeRobotDataset of held-out demonstrations, in place of roll-outs.")
    ] = None,
    episodes: Annotated[
        str, typer.Option(help="Of --dataset, such as 3,40-49; a fraction takes the last ones.")
    ] = "1.0",
    false_alarm: Annotated[float, typer.Option(help="Share of clean episodes that may raise an alarm.")] = 0.05,
    score: Annotated[str, typer.Option(help="auto, dynamics, knn, mahalanobis or spread.")] = "auto",
    reference: Annotated[
        Path | None,
        typer.Option(help="LeRobotDataset that the score is fitted to; what it was trained on if not given."),
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Steps after which a roll-out has failed.")] = 300,
    first_seed: Annotated[int, typer.Option(help="Of the roll-outs.")] = 20_000,
    frames_dir: Annotated[Path | None, typer.Option(help="Where decoded frames are kept, as in training.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the policy computes; a GPU if there is one.")] = None,
    workers: Workers = None,
) -> None:
    """Teach a checkpoint to say when it is lost, at a chosen rate of false alarms."""
    from ..monitor.conformal import check_rate, least_episodes

    check_rate(false_alarm)
    if dataset is None and rollouts < least_episodes(false_alarm):
        check_rate(false_alarm, rollouts)

    from ..checkpoints import checkpoint_folder, load_policy, policy_config
    from ..data.trained_on import trained_on
    from ..monitor.demonstrations import check_held_out, read_demonstrations, reference_episodes
    from ..monitor.monitor import Monitor, default_score, scores_of
    from ..monitor.scores import SCORES, ScoreName, fit
    from ..observing import observation_queues
    from ..processes import default_workers, prepare

    prepare()
    folder = checkpoint_folder(checkpoint)
    config = policy_config(folder)
    config.device = chosen_device(device)
    loaded = load_policy(folder, config)
    possible = scores_of(loaded.policy)
    if score != "auto" and score not in list(ScoreName):
        raise UserError(f"--score is {score!r}; choose one of: auto, {', '.join(ScoreName)}")
    name = default_score(loaded.policy) if score == "auto" else ScoreName(score)
    if name not in possible:
        why = "has no dynamics" if config.type == "dap" else "tells nothing but its actions"
        raise UserError(f"--score {name}: this policy ({config.type}) {why}; it allows: {', '.join(possible)}")
    if len(possible) == 1:
        typer.echo(
            f"{config.type} tells nothing but its actions: the monitor watches how much its chunks disagree"
        )
    needs = SCORES[name].needs
    offsets = getattr(config, "outcome_offsets", ())
    read = partial(read_demonstrations, loaded.policy, loaded.preprocess)

    held_out: tuple[int, ...] = ()
    if dataset is not None:
        from ..probe.dataset import open_metadata, parse_episodes

        if observation_queues(loaded.policy) and config.type != "dap":
            raise UserError(f"{config.type} keeps what it saw in queues of its own: calibrate it on --rollouts")
        held_out = parse_episodes(episodes, open_metadata(dataset, f"local/{dataset.name}").total_episodes)
        unsure = check_held_out(folder, config, dataset, held_out, reference)
        if unsure:
            typer.echo(unsure)

    with bars() as bar:
        demonstrations = []
        if name is not ScoreName.SPREAD:
            trained = trained_on(folder)
            root = reference or (trained.root if trained else None)
            if root is None or not root.exists():
                where = f"they are not at {root}" if root else "the checkpoint does not say where they lie"
                raise UserError(
                    f"the score {name} is fitted to the training demonstrations, and {where}: say where with "
                    "--reference, or take --score spread"
                )
            chosen = reference_episodes(trained, config, root, dataset, held_out)
            demonstrations = list(read(root, chosen, needs, partial(bar, "demonstrations"), frames_dir))
        fitted = fit(name, demonstrations, offsets)
        if dataset is None:
            from ..bench.calibration import clean_rollouts, own_task

            task = task or own_task(folder)
            rolled = clean_rollouts(
                folder,
                task,
                rollouts,
                needs,
                first_seed=first_seed,
                max_steps=max_steps,
                device=config.device,
                workers=workers or default_workers(),
                report=partial(bar, "rolling out"),
            )
            clean = [rollout.plans for rollout in rolled if rollout.success]
            source = f"{len(clean)} successes of {rollouts} clean roll-outs of {task}, seeds from {first_seed}"
        else:
            clean = list(read(dataset, held_out, needs, partial(bar, "calibrating"), frames_dir))
            source = f"{len(clean)} demonstrations of {dataset.name}"
    settings = {
        "source": source,
        "n_action_steps": int(getattr(config, "n_action_steps", 1)),
        "offsets": list(offsets),
    }
    monitor = Monitor.calibrated(fitted, clean, false_alarm, settings)
    monitor.save(folder)
    print(f"monitor: {name} above {monitor.threshold:.4g} is an alarm, from {source}: {folder}")
