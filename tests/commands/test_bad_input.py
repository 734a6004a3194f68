"""Bad input: one line that says what, where and how to mend it, status 2, and nothing lost."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType
from commands_support import BIN, SIZE, TASK, dap, environment, refused, train_flags
from safetensors.torch import load_file, save_file

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import sole_run
from lerobot_policy_dap.train import loop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


def checkpoint(trained):
    return trained / "checkpoints" / "last" / "pretrained_model"


def evaluate(policy, out, *more):
    return (
        "eval",
        "--policy",
        f"p={policy}",
        "--task",
        TASK,
        "--shift",
        "none",
        "--episodes",
        1,
        "--out",
        out,
        *more,
    )


def test_unknown_names(tmp_path, trained):
    assert "did you mean drawer-open" in refused("collect", "--task", "drawr-open")
    assert "unknown camera 'top'" in refused("collect", "--task", TASK, "--camera", "top", "--out", tmp_path / "x")
    out = tmp_path / "out"
    assert "unknown task 'dance'" in refused(*evaluate(trained, out), "--task", "dance")
    assert "unknown shift 'fog'; choose one of" in refused(*evaluate(trained, out), "--shift", "fog")
    assert "severity is 9" in refused(*evaluate(trained, out), "--shift", "distractors", "--severity", "9")
    assert "whole numbers" in refused(*evaluate(trained, out), "--severity", "high")
    assert not out.exists()


def test_an_unknown_option_is_named():
    done = dap("eval", "--polcy", "x", check=False)
    assert done.returncode == 2
    assert "No such option: --polcy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [("bench", "report", "results", "--workers", -1), ("serve", "run", "--port", 70000)]
)
def test_a_number_out_of_its_range_is_named(command):
    done = dap(*command, check=False)
    assert done.returncode == 2
    assert f"Invalid value for '{command[-2]}'" in done.stderr
    assert "Traceback" not in done.stderr


def test_lerobots_commands_say_it_too(trained):
    done = subprocess.run(
        [BIN / "lerobot-eval", f"--policy.path={checkpoint(trained)}", "--env.type=metaworld_shift", "--env.shift=fog"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "unknown shift 'fog'" in done.stderr + done.stdout


def test_a_dataset_that_cannot_be_used(dataset, tmp_path):
    def training(root, **flags):
        return refused("train", *train_flags(root, tmp_path / "run", "two_way", **flags))

    assert "does not exist" in training(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "meta/info.json is missing" in training(empty)
    half = tmp_path / "half"
    shutil.copytree(dataset, half)
    for parquet in half.glob("data/**/*.parquet"):
        parquet.write_bytes(parquet.read_bytes()[:-100])
    assert "half-written" in training(half)
    assert "no frame 400 steps after another" in training(dataset, **{"policy.horizon": 400})


def test_a_checkpoint_that_cannot_be_used(trained, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint(trained), broken)
    weights = load_file(broken / "model.safetensors")
    lost = weights.pop("dynamics.out.bias")
    save_file(weights, broken / "model.safetensors")
    assert "lacks 1 weights of this policy (dynamics.out.bias" in refused(*evaluate(broken, tmp_path / "a"))
    save_file({**weights, "dynamics.out.bias": lost}, broken / "model.safetensors")
    config = json.loads((broken / "config.json").read_text())
    config["input_features"]["observation.images.wrist"] = {"type": "VISUAL", "shape": [3, SIZE, SIZE]}
    (broken / "config.json").write_text(json.dumps(config))
    assert "looks at observation.images.wrist; Meta-World's cameras" in refused(*evaluate(broken, tmp_path / "b"))
    config["input_features"].pop("observation.images.wrist")
    config["input_features"]["observation.state"]["shape"] = [7]
    (broken / "config.json").write_text(json.dumps(config))
    assert "needs observation.state of shape (7,)" in refused(*evaluate(broken, tmp_path / "c"))
    (broken / "model.safetensors").unlink()
    assert "has no model.safetensors" in refused(*evaluate(broken, tmp_path / "d"))
    assert "is no checkpoint" in refused(*evaluate(tmp_path / "nowhere", tmp_path / "e"))


def test_data_of_another_simulator_or_size(trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(checkpoint(trained), other)
    recording = json.loads((other / "recording.json").read_text())
    recording["world"]["versions"]["mujoco"] = "3.4.0"
    (other / "recording.json").write_text(json.dumps(recording))
    assert "learned from frames of mujoco 3.4.0" in refused(*evaluate(other, tmp_path / "a"))
    recording["world"]["versions"]["mujoco"] = __import__("mujoco").__version__
    recording["world"]["settings"]["width"] = 96
    (other / "recording.json").write_text(json.dumps(recording))
    assert "rendered at 96x48" in refused(*evaluate(other, tmp_path / "a"))


def test_an_output_folder_that_holds_something_else(dataset, trained, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for command in (
        ("collect", "--task", TASK, "--episodes", 1, "--out", mine),
        ("train", *train_flags(dataset, mine, "none")),
        ("demo", "--out", mine),
    ):
        assert str(mine) in refused(*command)
    models = tmp_path / "models"
    (models / "checkpoints" / "best").mkdir(parents=True)
    (models / "checkpoints" / "best" / "model.pt").write_text("months of training")
    assert "holds something else" in refused("train", *train_flags(dataset, models, "none"))
    assert (models / "checkpoints" / "best" / "model.pt").exists()
    (mine / "eval").mkdir()
    (mine / "eval" / "notes.txt").write_text("more work")
    assert "notes.txt" in refused(*evaluate(trained, mine))
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert (mine / "eval" / "notes.txt").exists()


def test_a_run_that_is_under_way_is_left_alone(dataset, tmp_path):
    """Before its first checkpoint its folder looks like one that a kill has left."""
    for what, command in (
        ("training", ("train", *train_flags(dataset, tmp_path / "run", "none"))),
        ("collection", ("collect", "--task", TASK, "--episodes", 1, "--out", tmp_path / "run")),
    ):
        with sole_run(tmp_path / "run", what):
            (tmp_path / "run" / "checkpoints").mkdir(parents=True)
            assert f"another {what} is writing into" in refused(*command)
            assert (tmp_path / "run" / "checkpoints").is_dir()
        shutil.rmtree(tmp_path / "run")


def test_an_output_folder_that_is_a_link_is_no_place_for_a_new_one(dataset, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    assert "run is a link" in refused("train", *train_flags(dataset, tmp_path / "run", "none"))
    assert (tmp_path / "run").is_symlink()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--steps=0", "--steps is 0"),
        ("--batch_size=0", "--batch_size is 0"),
        ("--dataset.eval_split=1.5", "eval_split"),
        ("--dataset.episodes=[-1]", "must be non-negative"),
        ("--dataset.episodes=[]", "names no episode"),
        ("--policy.path=nowhere/at/all", "nowhere/at/all"),
        ("--config_path=nowhere/train_config.json", "nowhere"),
    ],
)
def test_what_lerobots_parser_refuses_is_one_line(dataset, frames, tmp_path, flag, said):
    name = flag.split("=")[0]
    flags = [f for f in train_flags(dataset, tmp_path / "run", "none") if not f.startswith(f"{name}=")]
    if name == "--policy.path":
        flags = [f for f in flags if not f.startswith("--policy.")]
    assert said in refused("train", "--frames-dir", frames, *flags, flag)


def test_no_rendering_backend_names_the_package(tmp_path):
    done = subprocess.run(
        [BIN / "dap", "collect", "--task", TASK, "--episodes", "1", "--out", tmp_path / "x"],
        env={**environment(), "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "apt-get install libegl1 libgl1-mesa-dri" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--env.type=metaworld_shift", "evaluate checkpoints with `dap eval`"),
        (
            '--rename_map={"observation.images.front": "observation.images.corner2"}',
            "dap train does not do --rename_map",
        ),
        ("--eval_steps=3", "eval_split > 0.0"),
    ],
)
def test_options_of_lerobots_trainer_that_ours_does_not_have_or_that_contradict_each_other(
    dataset, tmp_path, flag, said
):
    assert said in refused("train", *train_flags(dataset, tmp_path / "run", "none"), flag)
    assert not (tmp_path / "run").exists()


def test_sharded_training_is_lerobots(monkeypatch):
    sharding = SimpleNamespace(distributed_type=DistributedType.FSDP)
    monkeypatch.setattr(loop, "Accelerator", lambda **_: sharding)
    with pytest.raises(UserError, match="dap train does not shard its parameters"):
        loop._accelerator(SimpleNamespace(policy=SimpleNamespace(use_amp=False, device="cpu")))


def test_a_full_disk_is_one_line_and_the_collection_goes_on_when_there_is_room(small_disk):
    small = small_disk("1m")
    command = ("collect", "--task", TASK, "--episodes", 2, "--image-size", SIZE, "--out", small / "data")
    assert "no space left on the disk" in refused(*command)
    assert not (small / "data").exists()
    subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
    dap(*command)
    assert [p.name for p in small.iterdir()] == ["data"]
