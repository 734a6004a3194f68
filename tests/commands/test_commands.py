"""The commands a user types, as processes: ours and LeRobot's on what ours make."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from commands_support import BIN, EPISODES, SIZE, TASK, TWO, dap, killed, refused, run, train_flags
from lerobot.processor import DataProcessorPipeline
from safetensors.torch import load_file

from lerobot_policy_dap.modeling_dap import DAPPolicy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


def weights(run_folder, step):
    return load_file(run_folder / "checkpoints" / step / "pretrained_model" / "model.safetensors")


def moved(before, after):
    """How far the policy's weights are apart."""
    return max(float((after[k] - before[k]).abs().max()) for k in before if k.startswith("policy."))


def test_the_help_of_training_has_the_flags_of_lerobot_the_policy_and_ours():
    shown = dap("train", "--policy.type=dap", "--help").stdout
    assert all(flag in shown for flag in ("--dataset.root", "--policy.coupling", "--frames-dir"))


def test_collect_makes_a_lerobot_dataset_that_says_how_it_was_made(dataset):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    opened = LeRobotDataset(f"local/{TASK}", root=dataset)
    assert opened.meta.total_episodes == EPISODES
    assert opened.meta._version.major == 3
    assert opened[0]["observation.images.corner2"].shape == (3, SIZE, SIZE)
    recording = json.loads((dataset / "meta" / "recording.json").read_text())
    assert recording["world"]["settings"]["width"] == SIZE
    assert recording["world"]["versions"]["mujoco"]
    assert [e["length"] for e in recording["episodes"]] == [e["length"] for e in opened.meta.episodes]
    for episode in recording["episodes"]:  # a dozen real frames after success, and more
        assert episode["length"] - episode["success_step"] >= 12
    assert not dataset.with_name(dataset.name + ".partial").exists()


def test_stored_frames_and_actions_repeat_the_seeded_episode(dataset):
    """What the dataset holds is what the world shows under its seed and actions."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from lerobot_policy_dap.worlds.rendering import RenderSettings
    from lerobot_policy_dap.worlds.world import World

    opened = LeRobotDataset(f"local/{TASK}", root=dataset, return_uint8=True)
    recording = json.loads((dataset / "meta" / "recording.json").read_text())
    world = World(TASK, settings=RenderSettings(SIZE, SIZE))
    state = world.reset(recording["episodes"][0]["seed"])
    for i in range(40):
        item = opened[i]
        np.testing.assert_array_equal(item["observation.state"].numpy(), state)
        if i % 10 == 0:
            frame = item["observation.images.corner2"].numpy().transpose(1, 2, 0).astype(float)
            noise = np.mean((frame - world.render()) ** 2)
            assert 10 * np.log10(255**2 / noise) > 38  # decibels lost to the video
        state = world.step(item["action"].numpy()).state


def test_collecting_again_reuses_and_other_options_are_refused(dataset):
    again = dap("collect", "--task", TASK, "--episodes", EPISODES, "--image-size", SIZE, "--out", dataset)
    assert "there already" in again.stdout
    other = run(
        "dap", "collect", "--task", TASK, "--episodes", 5, "--image-size", SIZE, "--out", dataset, check=False
    )
    assert other.returncode == 2
    assert "episodes=3, not 5" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1


def test_a_resumed_training_has_the_weights_of_an_uninterrupted_one(trained, dataset, frames, tmp_path):
    """From the checkpoint at step 3, with everything after it gone, as after a kill."""
    out = tmp_path / "again"
    shutil.copytree(trained, out, symlinks=True)
    shutil.rmtree(out / "checkpoints" / "000006")
    (out / "checkpoints" / "last").unlink()
    (out / "checkpoints" / "last").symlink_to("000003")
    dap("train", "--frames-dir", frames, *train_flags(dataset, out, "two_way", save_freq=3))  # where it lies now
    one, two = weights(trained, "000006"), weights(out, "000006")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    steps = [json.loads(line)["step"] for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_before_it_pointed_to_its_last_checkpoint_is_found(trained, dataset, frames, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(trained, out, symlinks=True)
    (out / "checkpoints" / "last").unlink()
    done = dap("train", "--frames-dir", frames, *train_flags(dataset, out, "two_way", save_freq=3))
    assert "000006" in done.stdout
    assert (out / "checkpoints" / "last").resolve().name == "000006"


def test_a_run_resumed_by_its_last_checkpoint_as_lerobots_are_goes_on_pointing_to_it(
    trained, dataset, frames, tmp_path
):
    """Twice, and for a step more."""
    out = tmp_path / "again"
    shutil.copytree(trained, out, symlinks=True)
    config = out / "checkpoints" / "last" / "pretrained_model" / "train_config.json"
    resume = ("train", "--frames-dir", frames, f"--config_path={config}", "--resume=true", f"--output_dir={out}")
    for more, step in (((), 6), ((), 6), (("--steps=7",), 7)):
        done = dap(*resume, *more)
        assert f"{step:06d}" in done.stdout
        assert (out / "checkpoints" / "last").readlink().name == f"{step:06d}"
    assert weights(out, "last")["updates"] == 7


def test_the_same_command_may_save_and_log_otherwise(trained, dataset, frames, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(trained, out, symlinks=True)
    shutil.copytree(out / "checkpoints" / "000006", out / "checkpoints" / "000003_backup")  # no step
    shutil.rmtree(out / "checkpoints" / "000006")
    dap("train", "--frames-dir", frames, *train_flags(dataset, out, "two_way", save_freq=1), "--log_freq", "2")
    kept = {"000003", "000003_backup", "000004", "000005", "000006", "last"}
    assert {p.name for p in (out / "checkpoints").iterdir()} == kept
    steps = [json.loads(line)["step"] for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 6]
    state = {"observation.state": {"type": "STATE", "shape": [4]}}
    blind = [*train_flags(dataset, out, "two_way", save_freq=3), f"--policy.input_features={json.dumps(state)}"]
    assert "policy.input_features" in refused("train", "--frames-dir", frames, *blind)


def test_fine_tuning_goes_on_from_a_checkpoint(trained, dataset, frames, tmp_path):
    out = tmp_path / "tuned"
    checkpoint = trained / "checkpoints" / "last" / "pretrained_model"
    dap(
        "train", "--frames-dir", frames, f"--policy.path={checkpoint}", "--policy.push_to_hub=false",
        "--dataset.repo_id=local/drawer", f"--dataset.root={dataset}", "--dataset.episodes=[0]", "--batch_size=4",
        "--steps=1", f"--output_dir={out}",
    )  # fmt: skip
    tuned = weights(out, "000001")
    before = weights(trained, "000006")
    assert tuned["updates"] == before["updates"] + 1  # it went on from the checkpoint


def test_the_held_out_loss_is_of_frames_as_recorded(dataset, frames, tmp_path):
    """As in LeRobot, image transforms are for training alone. A rate of next to nothing leaves the weights as they are."""
    logs = []
    for enable in ("false", "true"):
        out = tmp_path / enable
        rate = {"policy.optimizer_lr": 1e-30, "policy.scheduler_decay_lr": 1e-30}
        held_out = {"dataset.eval_split": 0.3, "eval_steps": 2}
        transforms = {"dataset.image_transforms.enable": enable}
        flags = train_flags(dataset, out, "none", steps=2, seed=1, **rate, **held_out, **transforms)
        dap("train", "--frames-dir", frames, *flags)
        logs.append([json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()])
    recorded, transformed = logs
    assert [row["step"] for row in recorded if "eval_loss" in row] == [2]
    assert recorded[-1] == transformed[-1]
    assert recorded[0]["loss"] != transformed[0]["loss"]


def test_training_uploads_only_where_a_repository_is_named(trained, dataset, frames, tmp_path, monkeypatch):
    """Without `--policy.push_to_hub=false` LeRobot asks for a repository; a finished training is not lost to the Hub."""
    uploaded = []
    monkeypatch.setattr(DAPPolicy, "push_model_to_hub", lambda policy, config, **_: uploaded.append(policy))
    monkeypatch.setattr(
        DataProcessorPipeline, "push_to_hub", lambda processor, repository: uploaded.append(repository)
    )
    alone = [flag for flag in train_flags(dataset, tmp_path / "alone", "none", steps=1) if "push" not in flag]
    dap("train", "--frames-dir", frames, *alone)
    assert uploaded == []
    named = train_flags(
        dataset, tmp_path / "named", "none", steps=1,
        **{"policy.push_to_hub": "true", "policy.repo_id": "someone/drawer"},
    )  # fmt: skip
    dap("train", "--frames-dir", frames, *named)
    assert uploaded[1:] == ["someone/drawer", "someone/drawer"]

    def down(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(DAPPolicy, "push_model_to_hub", down)
    done = dap("train", "--frames-dir", frames, *named, check=False)
    assert done.returncode == 2
    assert "is finished, but was not uploaded to someone/drawer (no network)" in done.stderr


def test_training_into_a_folder_with_another_run_is_refused(trained, dataset, frames):
    done = dap(
        "train", "--frames-dir", frames, *train_flags(dataset, trained, "two_way", save_freq=3, batch_size=4),
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "batch_size=8, not 4" in done.stderr
    own = {"use_policy_training_preset": "false", "optimizer.type": "sgd", "optimizer.lr": 0.1}
    sizes = {
        "type": "cosine_decay_with_warmup",
        "num_warmup_steps": 1,
        "num_decay_steps": 6,
        "peak_lr": 0.1,
        "decay_lr": 0,
    }
    scheduler = {f"scheduler.{name}": value for name, value in sizes.items()}
    other = train_flags(dataset, trained, "two_way", save_freq=3, **own, **scheduler)
    assert "use_policy_training_preset=True, not False" in dap("train", *other, check=False).stderr


def test_fine_tuning_goes_on_from_where_it_began_or_not_at_all(trained, dataset, frames, tmp_path):
    out = tmp_path / "tuned"
    first, second = (trained / "checkpoints" / step / "pretrained_model" for step in ("000003", "000006"))

    def tuned(path, *more):
        kept = [f for f in train_flags(dataset, out, "two_way", steps=2, save_freq=1) if "--policy." not in f]
        flags = [*kept, f"--policy.path={path}", "--policy.push_to_hub=false", *more]
        return dap("train", "--frames-dir", frames, *flags, check=False)

    assert tuned(first).returncode == 0
    made = weights(out, "000002")
    assert f"pretrained_path='{first}', not '{second}'" in tuned(second).stderr
    assert "coupling='two_way', not 'none'" in tuned(first, "--policy.coupling=none").stderr
    for _ in range(2):  # a run that was resumed still says what it began from
        shutil.rmtree(out / "checkpoints" / "000002")
        assert tuned(first).returncode == 0
        assert all(torch.equal(made[name], value) for name, value in weights(out, "000002").items())
    assert f"pretrained_path='{first}', not '{second}'" in tuned(second).stderr


def test_lerobot_train_and_lerobot_eval_take_the_policy_and_the_environment(dataset, tmp_path):
    out = tmp_path / "lerobot"
    run("lerobot-train", *train_flags(dataset, out, "two_way", steps=2))
    checkpoint = out / "checkpoints" / "last" / "pretrained_model"
    assert json.loads((checkpoint / "recording.json").read_text())["world"]["task"] == "drawer-open-v3"
    run(
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        "--env.type=metaworld_shift",
        f"--env.task={TASK}",
        f"--env.image_size={SIZE}",
        "--env.shift=distractors",
        "--env.severity=3",
        "--env.episode_length=20",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        "--policy.device=cpu",
        "--policy.coupling=auxiliary",  # its feedback switched off
        f"--output_dir={tmp_path / 'eval'}",
    )
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
    assert list((tmp_path / "eval").rglob("*.mp4"))


def test_lerobot_train_in_two_processes_and_mixed_precision_and_on_in_one(dataset, tmp_path):
    out = tmp_path / "lerobot"
    flags = train_flags(dataset, out, "two_way", steps=2, **{"policy.use_amp": "true"})
    log = tmp_path / "log"
    # Leaving, PyTorch may free DDP's reducer under Python's lock and wait for ever for a thread of gloo's that waits for
    # the lock (pytorch/pytorch#56297): then torchrun is told to stop, which ends its processes.
    with log.open("w") as output:
        trains = (*TWO, BIN / "lerobot-train", *flags)
        killed(trains, lambda: "End of training" in log.read_text(), 20, signal.SIGTERM, output)
    said = log.read_text()
    assert "End of training" in said, said[-4000:]
    assert "Effective batch size: 8 x 2 = 16" in said
    made = weights(out, "000002")
    assert made["updates"] == 2
    assert all(value.dtype in (torch.float32, torch.int64) and value.isfinite().all() for value in made.values())
    config = out / "checkpoints" / "last" / "pretrained_model" / "train_config.json"
    done = run("lerobot-train", f"--config_path={config}", "--resume=true", "--steps=3")
    assert "written with num_processes=2" in done.stderr
    after = weights(out, "000003")
    assert after["updates"] == 3
    assert 0 < moved(made, after) < 0.01


def test_dap_train_in_mixed_precision_learns_as_in_float32(dataset, frames, tmp_path):
    losses = []
    for use_amp in ("false", "true"):
        out = tmp_path / use_amp
        flags = train_flags(dataset, out, "two_way", steps=2, seed=1, **{"policy.use_amp": use_amp})
        run("dap", "train", "--frames-dir", frames, *flags)  # a process has one precision
        losses.append([json.loads(line)["loss"] for line in (out / "train_log.jsonl").read_text().splitlines()])
        assert all(value.dtype in (torch.float32, torch.int64) for value in weights(out, "000002").values())
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)


def test_lerobot_train_resumes_what_dap_train_saved(trained, dataset, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained, out, symlinks=True)
    config = out / "checkpoints" / "last" / "pretrained_model" / "train_config.json"
    run("lerobot-train", f"--config_path={config}", "--resume=true", "--steps=7", f"--output_dir={out}")
    before, after = weights(trained, "000006"), weights(out, "000007")
    assert after["updates"] == before["updates"] + 1 == 7
    key = "standardize.num_batches_tracked"
    assert after[key] == before[key] + 1
    assert 0 < moved(before, after) < 0.01  # one step of Adam that went on, and no new beginning
    states = [load_file(run_ / "checkpoints" / step / "training_state" / "optimizer_state.safetensors")
              for run_, step in ((trained, "000006"), (out, "000007"))]  # fmt: skip
    assert {float(s) for k, s in states[1].items() if k.endswith("step")} == {
        float(s) + 1 for k, s in states[0].items() if k.endswith("step")
    }


def test_eval_writes_rows_results_and_a_report(trained, tmp_path):
    out = tmp_path / "eval"
    command = (
        "eval", "--policy", f"mine={trained}", "--task", TASK, "--shift", "table_color,distractors",
        "--severity", "3", "--episodes", "3", "--batch", "2", "--max-steps", "16", "--out", out,
    )  # fmt: skip
    assert "report.html" in dap(*command).stdout
    from lerobot_policy_dap.bench.episodes import read_episodes

    rows = read_episodes(out / "episodes.parquet")
    cells = {(r.shift, r.severity) for r in rows}
    assert cells == {("none", 0), ("blind", 0), ("table_color", 3), ("distractors", 3)}
    assert len(rows) == 4 * 3
    assert {r.seed for r in rows} == {10_000, 10_001, 10_002}
    results = json.loads((out / "results.json").read_text())
    assert results["meta"]["policies"][0]["diagnostics"]["outcome_rank"] > 0
    before = (out / "eval" / "rows" / f"mine@0-{TASK}-v3-none-0-10000-2.parquet").stat().st_mtime_ns
    dap(*command)
    assert (out / "eval" / "rows" / f"mine@0-{TASK}-v3-none-0-10000-2.parquet").stat().st_mtime_ns == before
    other = dap(*command[:-1], out, "--first-seed", "7", check=False)
    assert other.returncode == 2
    assert "first_seed" in other.stderr
    other = dap(*command[:-1], out, "--task", "hammer", check=False)
    assert other.returncode == 2
    assert "holds drawer-open-v3 clean of mine, which is not asked for now" in other.stderr


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        # Plans whole chunks from one observation: frames are rendered when it plans.
        (
            "act",
            {
                "dim_model": 32,
                "n_heads": 2,
                "dim_feedforward": 32,
                "n_encoder_layers": 1,
                "chunk_size": 8,
                "n_action_steps": 4,
            },
        ),
        # Looks back over five observations: every step is shown to it.
        ("vqbet", {}),
        # Looks back over two and plans eight steps: frames are rendered where a plan looks at them.
        (
            "diffusion",
            {"down_dims": "[16, 32]", "n_groups": 4, "noise_scheduler_type": "DDIM", "num_inference_steps": 2},
        ),
    ],
)
def test_other_peoples_policies_train_from_decoded_frames_and_are_evaluated(
    kind, options, dataset, frames, tmp_path
):
    out = tmp_path / kind
    flags = {f"policy.{name}": value for name, value in options.items()}
    dap(
        "train", "--frames-dir", frames, "--dataset.repo_id=local/drawer", f"--dataset.root={dataset}",
        f"--policy.type={kind}", "--policy.device=cpu", "--policy.push_to_hub=false",
        "--policy.pretrained_backbone_weights=null", f"--output_dir={out}", "--batch_size=2", "--steps=1",
        *(f"--{name}={value}" for name, value in flags.items()),
        *(["--policy.crop_shape=[40, 40]"] if kind != "act" else []),
    )  # fmt: skip
    dap(
        "eval", "--policy", f"{kind}={out}", "--task", TASK, "--shift", "distractors", "--severity", "2", "--episodes",
        "2", "--max-steps", "8", "--batch", "2", "--out", tmp_path / "eval",
    )  # fmt: skip
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert {cell["shift"]: cell["n"] for cell in results["cells"]} == {"none": 2, "distractors": 2, "blind": 2}


def test_two_processes_learn_as_one_with_the_doubled_batch(dataset, frames, tmp_path):
    """Other noise, the same frames a step, the same loss curve."""
    flags = {"steps": 60, "save_freq": 60, "log_freq": 15, "policy.hidden_dim": 64}
    one, two = tmp_path / "one", tmp_path / "two"
    dap("train", "--frames-dir", frames, *train_flags(dataset, one, "two_way", batch_size=32, **flags))
    run(
        *TWO, "-m", "lerobot_policy_dap.cli", "train", "--frames-dir", frames,
        *train_flags(dataset, two, "two_way", batch_size=16, **flags),
    )  # fmt: skip
    step = json.loads((two / "checkpoints" / "last" / "training_state" / "training_step.json").read_text())
    assert step["num_processes"] == 2
    curves = [
        np.array([json.loads(line)["loss"] for line in (out / "train_log.jsonl").read_text().splitlines()])
        for out in (one, two)
    ]
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.12)
    assert not np.allclose(curves[1], curves[0], rtol=1e-4)  # the two draw their own noise
    assert curves[0][-1] < 0.95 * curves[0][0]
