"""What LeRobot asks of every policy, asked of ours; and that yesterday's checkpoints load today.

`fixtures/dap-*` are checkpoints of a version with a chunk that each planned, the later ones with the outcome that it
expected and the loss of a lesson. They are never made anew: a change that breaks one breaks its users' checkpoints.
`python tests/policy/test_contract.py FOLDER [ARM …]` makes some of a later version.
"""

import lzma
import shutil
import sys
from pathlib import Path

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_policy_config
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from test_policy import BASE, CAMERA, batch, config, now, policy

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.modeling_dap import DAPPolicy

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEPT = sorted(str(file.parent.relative_to(FIXTURES)) for file in FIXTURES.glob("dap-*/*/planned.safetensors"))
STATISTICS = {
    "action": {"mean": torch.tensor([0.5, -1.0]), "std": torch.tensor([2.0, 0.5])},
    "observation.state": {"mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.tensor([1.0, 2.0, 3.0])},
}
ARMS = {"two_way": {"dynamics_hidden_dim": 16}, "none": {"dynamics_hidden_dim": 16, "n_obs_steps": 2},
        "auxiliary": {"velocity": "transformer",
                      "hidden_dim": 64, "dynamics_hidden_dim": 64, "dynamics_depth": 1},
        "default": {"coupling": "auxiliary", "dynamics_hidden_dim": 16},
        "shipped": {"coupling": "none", "dynamics_hidden_dim": 16},
        "base": {**BASE, "coupling": "two_way",
                 "dynamics_depth": 1, "outcome_grid": 2, "outcome_offsets": (3, 6)}}  # fmt: skip
PACKED = "model.safetensors.xz"
"""Weights of few distinct values, for networks that are large at their smallest."""


def shown():
    g = torch.Generator().manual_seed(0)
    return {CAMERA: torch.rand(2, 3, 40, 48, generator=g), "observation.state": torch.randn(2, 3, generator=g)}


def make_fixture(folder, *arms):
    """A checkpoint of arms in `ARMS`, its processors, an observation and a lesson, and what came of them."""
    for arm in arms or ARMS:
        made = policy(**{"coupling": arm, **ARMS[arm]}).train()
        made(batch(made))
        made.update()
        made.target_encoder.towers[0][0].weight.neg_()  # not the trained one
        large = sum(p.numel() for p in made.parameters()) > 50_000
        for name, p in made.named_parameters():
            if name.endswith(("null", "offset")):  # nothing is learned yet
                torch.nn.init.normal_(p, std=0.3)
            if large:
                coarse(p.data)
        before, after = make_pre_post_processors(made.config, dataset_stats=STATISTICS)
        for part in (made, before, after):
            part.save_pretrained(folder / arm)
        frames = batch(made)
        frames["action_is_pad"][0, 4:] = frames[f"{CAMERA}_is_pad"][1, -1] = True
        lesson = {f"lesson.{key}": value for key, value in frames.items()}
        lesson[f"lesson.{CAMERA}"] = (255 * frames[CAMERA]).byte()
        lesson["lesson.loss"] = torch.tensor(taught(made, lesson))
        save_file(shown() | planned(folder / arm) | lesson, folder / arm / "planned.safetensors")
        if large:
            file = folder / arm / "model.safetensors"
            (folder / arm / PACKED).write_bytes(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
            file.unlink()


def coarse(weights):
    """Rounds to halves of the spread, up to one spread and a half."""
    spread = weights.std() if weights.numel() > 1 else 0
    if spread > 0:
        weights.copy_((weights / spread * 2).round().clamp(-3, 3) * spread / 2)


def planned(folder, observation=None):
    """The first chunk of a checkpoint for an observation, in the robot's units, and what it expects of the chunk."""
    made = get_policy_class("dap").from_pretrained(folder)
    before, after = make_pre_post_processors(made.config, pretrained_path=str(folder))
    made.reset()
    seen = before(observation or shown())
    chunk = made.predict_action_chunk(seen)
    expected = {"outcome": made.expected_outcome(seen, chunk)} if made.config.arm.learns_dynamics else {}
    return {"action": after(chunk), **expected}


def taught(made, kept):
    """The loss of a training step on the lesson that is kept with a checkpoint."""
    lesson = {key.removeprefix("lesson."): value for key, value in kept.items() if key.startswith("lesson.")}
    lesson[CAMERA] = lesson[CAMERA].float() / 255
    torch.manual_seed(0)
    return made.train()(lesson)[0].item()


@pytest.mark.parametrize("checkpoint", KEPT)
def test_a_checkpoint_of_an_earlier_version_plans_expects_and_learns_as_it_did(checkpoint, tmp_path):
    folder = shutil.copytree(FIXTURES / checkpoint, tmp_path / "checkpoint")
    if (folder / PACKED).exists():
        (folder / "model.safetensors").write_bytes(lzma.decompress((folder / PACKED).read_bytes()))
    kept = load_file(folder / "planned.safetensors")
    found = planned(folder, {key: kept[key] for key in shown()})
    if "lesson.loss" in kept:
        found["lesson.loss"] = torch.tensor(taught(DAPPolicy.from_pretrained(folder), kept))
    # Not bit for bit: kernels differ between machines and releases of torch.
    compared = found.keys() & kept.keys()
    assert "action" in compared
    for name in compared:
        torch.testing.assert_close(found[name], kept[name], atol=1e-4, rtol=1e-4)


def test_there_is_a_checkpoint_of_an_earlier_version():
    assert {"dap-0.1.0/two_way", "dap-0.1.0/none", "dap-0.1.0/auxiliary"} < set(KEPT)
    assert {"dap-0.1.0-auxiliary/default", "dap-0.1.0-none/shipped"} < set(KEPT)
    sizes = [file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()]
    assert max(sizes) < 750_000
    assert sum(sizes) < 7 * 2**18


def test_the_defaults_are_a_policy():
    made = make_policy_config("dap", device="cpu")
    assert isinstance(made, DAPConfig)
    assert made.type == "dap"
    assert made.get_optimizer_preset().build([torch.nn.Parameter(torch.zeros(1))])
    assert made.get_scheduler_preset() is not None
    assert made.action_delta_indices == list(range(made.horizon))
    assert made.observation_delta_indices == [0]
    assert made.reward_delta_indices is None
    assert made.n_action_steps <= made.horizon
    assert made == make_policy_config("dap", device="cpu")


def test_saved_and_loaded_it_is_bit_for_bit_the_same(tmp_path):
    made = policy().train()
    made(batch(made))
    made.save_pretrained(tmp_path)
    again = DAPPolicy.from_pretrained(tmp_path, strict=True)
    assert again.config == PreTrainedConfig.from_pretrained(tmp_path)
    assert made.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in made.state_dict().items())
    again.save_pretrained(tmp_path / "again")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_one_optimiser_step_changes_what_is_trained_and_nothing_else():
    made = policy().train()
    before = {name: p.clone() for name, p in made.named_parameters()}
    optimizer = made.config.get_optimizer_preset().build(made.get_optim_params())
    for _ in range(3):  # the networks' outputs start at zero, and gradients reach the encoder after the first step
        optimizer.zero_grad()
        made(batch(made))[0].backward()
        optimizer.step()
    for name, p in made.named_parameters():
        if name == "dynamics.null":  # the token of a dynamics that is told nothing: another arm's
            continue
        assert torch.equal(p, before[name]) == name.startswith("target_encoder."), name


def test_a_batch_is_left_as_it_was():
    made = policy().train()
    given = batch(made)
    kept = {key: value.clone() for key, value in given.items()}
    made(given)
    made.eval()
    made.select_action(seen := now(given))
    assert given.keys() == kept.keys()
    assert all(torch.equal(value, kept[key]) for key, value in given.items())
    assert seen.keys() == now(given).keys()


def test_actions_have_their_shape_and_reset_begins_anew():
    made = policy().eval()
    seen = now(batch(made))
    chunk = made.predict_action_chunk(seen)
    assert chunk.shape == (5, made.config.horizon, 2)
    assert chunk.dtype == torch.float32
    made.reset()
    first = [made.select_action(seen) for _ in range(5)]
    made.reset()
    again = [made.select_action(seen) for _ in range(5)]
    assert all(action.shape == (5, 2) for action in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_lerobot_makes_it_for_a_dataset_and_fills_in_the_features():
    features = {
        CAMERA: {"dtype": "video", "shape": (40, 48, 3), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    }

    class Meta:
        def __init__(self):
            self.features, self.stats, self.root = features, STATISTICS, None

    asked = config()
    asked.input_features, asked.output_features = {}, {}
    made = make_policy(asked, ds_meta=Meta())
    assert set(made.config.input_features) == {CAMERA, "observation.state"}
    assert made.chunk_shape == (6, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cameras": (), "state": 0}, "neither images nor 'observation.state'"),
        ({"depth": (1, 40, 48)}, r"wrist has the shape \(1, 40, 48\); dap looks at colour images"),
    ],
)
def test_what_it_cannot_look_at_is_refused_in_one_line(options, said):
    depth = options.pop("depth", None)
    made = config(**options)
    if depth:
        made.input_features["observation.images.wrist"] = PolicyFeature(FeatureType.VISUAL, depth)
    with pytest.raises(UserError, match=said):
        DAPPolicy(made)


def test_inputs_that_are_not_looked_at_are_named(caplog):
    made = config()
    made.input_features["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (4,))
    with caplog.at_level("WARNING"):
        DAPPolicy(made)
    assert "not looked at: observation.environment_state" in caplog.text


def test_options_of_a_dynamics_that_there_is_not_are_named(caplog):
    unusual = {"outcome_offsets": (3, 6), "align": False}
    for options in ({"coupling": "none", "horizon": 9}, {"coupling": "auxiliary", **unusual}):
        config(**options).validate_features()
    assert "no dynamics" not in caplog.text
    config(coupling="none", **unusual).validate_features()
    assert "coupling is none, which has no dynamics: outcome_offsets, align\n" in caplog.text


if __name__ == "__main__":
    make_fixture(Path(sys.argv[1]), *sys.argv[2:])
