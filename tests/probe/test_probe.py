"""The measured movement is the true one, a run resumes, and the command says what is wrong in one line."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands_support import dap
from probe_support import TOP, WRIST

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.probe import run as running
from lerobot_policy_dap.probe.dataset import load_samples, open_metadata
from lerobot_policy_dap.probe.factors import FACTORS
from lerobot_policy_dap.probe.measure import action_std
from lerobot_policy_dap.probe.publish import publish
from lerobot_policy_dap.probe.request import Named, Request

GAIN = 10.0


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Worker processes do not know the policy that these tests define."""
    if "command" not in request.fixturenames:
        monkeypatch.setattr(running, "each", lambda work, items, workers: ((item, work(item)) for item in items))


@pytest.fixture
def command():
    """Asks for real worker processes."""


def asked(root, folder, **other):
    settings = {"episodes": (1, 2, 4), "factors": ("darker",), "severities": (0, 2, 5), "frames": 10, "batch": 4}
    return Request((Named("it", folder),), root, "local/robot", **(settings | other))


def probed(request, out, report=lambda *_: None):
    measured = running.run(request, out, 1, "cpu", report)
    return publish(request, measured, out, "dap probe"), measured


def cells(results, **wanted):
    return [cell for cell in results["cells"] if all(cell[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize("storage", ["in_images", "in_video"])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_movement_of_a_known_policy(storage, noise, request, checkpoint, tmp_path):
    """Actions are GAIN times the mean brightness of one camera, so the movement has a closed form; paired noise
    drops out of it, and the other camera does nothing."""
    root = request.getfixturevalue(storage)
    folder = checkpoint("brightness", gain=GAIN, noise=noise)
    results, measured = probed(asked(root, folder), tmp_path)
    samples, std = load_samples(measured.setup.samples), action_std(open_metadata(root, "local/robot"))

    moved = []
    for images, episode, frame in zip(samples.images[TOP], samples.episode, samples.frame, strict=True):
        dark = FACTORS["darker"].shift(images, 5, 0, TOP, episode, frame)
        moved.append(GAIN * abs(dark.mean() - images.mean()) / 255 * np.sqrt((1 / std**2).mean()))
    expected = np.mean([np.mean(np.array(moved)[samples.episode == e]) for e in (1, 2, 4)])

    for camera in (TOP, "all"):
        (cell,) = cells(results, camera=camera, severity=5)
        assert cell["moved"]["estimate"] == pytest.approx(expected, rel=1e-4)
        assert cell["moved"]["low"] <= expected <= cell["moved"]["high"]
    by_dimension = np.array(cell["moved_by_dimension"])
    assert by_dimension == pytest.approx(by_dimension[0] * std[0] / std, rel=1e-4)
    for cell in (*cells(results, camera=WRIST), *cells(results, severity=0)):
        assert cell["moved"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}
        assert cell["verdict"] == "none"
        assert cell["harm"]["estimate"] == 0.0

    (policy,) = results["policies"]
    assert policy["deterministic"] == (noise == 0)
    spread = noise * np.sqrt(2) * np.sqrt((1 / std**2).mean())
    assert policy["spread"]["estimate"] == pytest.approx(spread, rel=0.25)
    (cell,) = cells(results, camera=TOP, severity=5)
    assert cell["verdict"] == ("no spread" if noise == 0 else "within")


def test_error_against_the_demonstration(checkpoint, in_images, tmp_path):
    """A gain of zero plans nothing but zeros: the error is the demonstration's own size, shifted or not."""
    results, measured = probed(asked(in_images, checkpoint("brightness", gain=0.0)), tmp_path)
    samples, std = load_samples(measured.setup.samples), action_std(open_metadata(in_images, "local/robot"))
    squares = (samples.action / std) ** 2 * samples.valid[..., None]
    size = np.sqrt((squares.sum(axis=1) / samples.valid.sum(axis=1)[:, None]).mean(axis=1))
    expected = np.mean([size[samples.episode == e].mean() for e in (1, 2, 4)])
    assert results["policies"][0]["error"]["estimate"] == pytest.approx(expected, rel=1e-5)
    assert {cell["harm_verdict"] for cell in results["cells"]} == {"not established"}


def test_what_is_written(checkpoint, in_images, tmp_path):
    results, _ = probed(asked(in_images, checkpoint("brightness", gain=GAIN)), tmp_path)
    assert json.loads((tmp_path / "probe.json").read_text()) == results
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(rows) == 10 * 3 * 3
    (cell,) = cells(results, camera=TOP, severity=2)
    mine = [row for row in rows if (row["camera"], row["severity"]) == (TOP, 2)]
    means = [np.mean([row["moved"] for row in mine if row["episode"] == e]) for e in (1, 2, 4)]
    assert cell["moved"]["estimate"] == pytest.approx(np.mean(means))
    assert cell["magnitude"] == mine[0]["magnitude"] == -1.0
    assert results["meta"]["dimensions"] == [f"joint{i}" for i in range(6)]


def test_a_killed_run_goes_on(checkpoint, in_images, tmp_path):
    request = asked(in_images, checkpoint("dap"), factors=("noise", "patches"), severities=(5,))
    whole, _ = probed(request, tmp_path / "whole")

    def killed(name, done, total):
        if (name, done) == ("probing", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probed(request, tmp_path / "killed", killed)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "parts").rglob("*.npz")}
    assert len(kept) == 4
    counts = []
    again, _ = probed(request, tmp_path / "killed", lambda name, done, total: counts.append((name, done, total)))
    assert counts == [("probing", done, 7) for done in (4, 5, 6, 7)]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert again["cells"] == whole["cells"]
    assert (tmp_path / "killed" / "rows.parquet").read_bytes() == (
        tmp_path / "whole" / "rows.parquet"
    ).read_bytes()
    probed(
        asked(in_images, checkpoint("dap"), factors=("blur",), severities=(5,)), tmp_path / "killed"
    )  # more of it


@pytest.mark.slow
def test_the_command(command, checkpoint, in_video, tmp_path):
    done = dap(
        "probe", "--policy", f"act={checkpoint('act', root=in_video)}", "--policy",
        f"diffusion={checkpoint('diffusion', root=in_video)}", "--dataset.root", in_video, "--episodes", "2-4",
        "--frames", 4, "--factor", "jpeg", "--severity", 5, "--workers", 1, "--device", "cpu", "--out", tmp_path / "out",
    )  # fmt: skip
    assert f"report: {tmp_path / 'out' / 'report.html'}" in done.stdout
    results = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [cell["camera"] for cell in cells(results, policy="act")] == ["all", TOP, WRIST]
    assert [cell["camera"] for cell in cells(results, policy="diffusion")] == ["all"]
    assert any(
        "deterministic" not in caveat and "act gives the same chunk" in caveat for caveat in results["caveats"]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--episodes", "3-9"], "there is no episode 5"),
        (["--factor", "fog"], "unknown factor 'fog'"),
        (["--severity", "7"], "severity is 7"),
        (["--frames", "0"], "--frames is 0"),
        (["--seed", "-1"], "--seed is -1; it must be 0 or more"),
        (["--device", "tpux"], "--device is 'tpux', which torch does not know"),
        (["--policy", "it=nowhere"], "two policies are named 'it'"),
        (["--dataset.root", "nowhere"], "is no LeRobotDataset"),
    ],
)
def test_mistakes_are_one_line(options, said, checkpoint, in_images, tmp_path):
    folder = checkpoint("dap")
    if "it=nowhere" in options:
        options = ["--policy", f"it={folder}"]
    done = dap(
        "probe", "--policy", f"it={folder}", "--dataset.root", in_images, "--out", tmp_path / "out",
        "--episodes", "0.5", *options, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_probe_in_the_folder(checkpoint, in_images, tmp_path):
    probed(asked(in_images, checkpoint("brightness", gain=0.0)), tmp_path / "out")
    with pytest.raises(Exception, match="holds a probe with seed=0, not 1"):
        probed(asked(in_images, checkpoint("brightness", gain=0.0), seed=1), tmp_path / "out")


def test_a_probe_is_of_one_configuration_and_one_kind_of_device(checkpoint, in_images, tmp_path):
    """The same weights act otherwise with other processors, and draw other noise on another device."""
    folder = checkpoint("brightness", gain=0.0)
    request = asked(in_images, folder)
    probed(request, tmp_path / "out")
    claimed = json.loads((tmp_path / "out" / "probe_request.json").read_text())
    assert claimed["device"] == "cpu"
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"n_action_steps": 1}))
    with pytest.raises(UserError, match="holds a probe with acting="):
        probed(asked(in_images, other), tmp_path / "out")
    claimed["device"] = "cuda"
    (tmp_path / "out" / "probe_request.json").write_text(json.dumps(claimed))
    with pytest.raises(UserError, match="holds a probe with device=cuda, not cpu"):
        probed(request, tmp_path / "out")


def test_a_damaged_part_is_named(checkpoint, in_images, tmp_path):
    request = asked(in_images, checkpoint("brightness", gain=0.0))
    probed(request, tmp_path)
    part = next((tmp_path / "parts").rglob("darker-5-all.npz"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(Exception, match=r"darker-5-all\.npz is not readable .* delete it"):
        probed(request, tmp_path)


def test_a_policy_with_its_own_names(checkpoint, in_images, tmp_path):
    """A checkpoint trained with `--rename_map` is shown the dataset's cameras under the names it knows."""
    own = "observation.images.camera1"
    plain = checkpoint("brightness", cameras=(TOP,), gain=GAIN)
    folder = shutil.copytree(plain, tmp_path / "renamed")
    for file, edit in (
        ("config.json", lambda c: c | {"camera": own, "input_features": {own: c["input_features"][TOP]}}),
        (
            "policy_preprocessor.json",
            lambda c: c | {"steps": [_renaming(step, {TOP: own}) for step in c["steps"]]},
        ),
    ):
        (folder / file).write_text(json.dumps(edit(json.loads((folder / file).read_text()))))
    renamed, _ = probed(asked(in_images, folder), tmp_path / "one")
    direct, _ = probed(asked(in_images, plain), tmp_path / "other")
    assert renamed["cells"] == direct["cells"]
    assert renamed["policies"][0]["cameras"] == [TOP]
    assert cells(renamed, severity=5)[0]["moved"]["estimate"] > 0


def _renaming(step, names):
    if step["registry_name"] == "rename_observations_processor":
        return step | {"config": {"rename_map": names}}
    return step


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (None, "Nothing in it's checkpoint says which episodes"),
        ({"repo_id": "local/robot", "episodes": [0, 1, 2]}, "it was trained on 2 of the 3 episodes shown"),
        ({"repo_id": "local/robot", "episodes": None}, "it was trained on 3 of the 3 episodes shown"),
        ({"repo_id": "local/robot", "episodes": [0, 3]}, None),
        ({"repo_id": "local/another", "episodes": None}, "it was trained on local/another: whether that is"),
        ({"repo_id": "local/another", "root": ".", "episodes": None}, None),
        (
            {"repo_id": "local/robot", "episodes": None, "eval_split": 0.1},
            "it was trained on 2 of the 3 episodes shown",
        ),
    ],
)
def test_episodes_seen_in_training_are_named(trained, said, checkpoint, in_images, tmp_path):
    folder = shutil.copytree(checkpoint("brightness", gain=GAIN), tmp_path / "policy")
    if trained is not None:
        (folder / "train_config.json").write_text(json.dumps({"dataset": trained}))
    results, _ = probed(asked(in_images, folder, severities=(5,)), tmp_path / "out")
    found = [caveat for caveat in results["caveats"] if "trained" in caveat]
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_a_policy_that_plans_no_numbers_is_named(checkpoint, in_images, tmp_path):
    folder = checkpoint("brightness", gain=float("nan"))
    with pytest.raises(UserError, match="it plans actions that are not finite on frames as recorded"):
        probed(asked(in_images, folder), tmp_path)
