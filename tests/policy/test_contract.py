"""What LeRobot asks of every policy, asked of ours; and that yesterday's checkpoints load today.

`fixtures/dap-0.1.0` is a checkpoint of that version with a chunk that it planned. It is never made anew: a change that
breaks it breaks its users' checkpoints. `python tests/policy/test_contract.py FOLDER` makes one of a later version.
"""

import sys
from pathlib import Path

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_policy_config
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from test_policy import CAMERA, batch, config, now, policy

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.modeling_dap import DAPPolicy

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEPT = sorted(folder.name for folder in FIXTURES.glob("dap-*"))
STATISTICS = {
    "action": {"mean": torch.tensor([0.5, -1.0]), "std": torch.tensor([2.0, 0.5])},
    "observation.state": {"mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.tensor([1.0, 2.0, 3.0])},
}
ARMS = {"two_way": {"dynamics_hidden_dim": 16}, "none": {"dynamics_hidden_dim": 16, "n_obs_steps": 2},
        "auxiliary": {"velocity": "transformer",
                      "hidden_dim": 64, "dynamics_hidden_dim": 64, "dynamics_depth": 1}}  # fmt: skip


def shown():
    g = torch.Generator().manual_seed(0)
    return {CAMERA: torch.rand(2, 3, 40, 48, generator=g), "observation.state": torch.randn(2, 3, generator=g)}


def make_fixture(folder):
    """A checkpoint of each arm in `ARMS`, its processors, an observation, and the actions planned for it."""
    for arm, options in ARMS.items():
        made = policy(coupling=arm, **options).train()
        made(batch(made))
        made.update()
        before, after = make_pre_post_processors(made.config, dataset_stats=STATISTICS)
        for part in (made, before, after):
            part.save_pretrained(folder / arm)
        save_file(shown() | {"action": planned(folder / arm)}, folder / arm / "planned.safetensors")


def planned(folder, observation=None):
    """The first chunk of a checkpoint for an observation, in the robot's units."""
    made = get_policy_class("dap").from_pretrained(folder)
    before, after = make_pre_post_processors(made.config, pretrained_path=str(folder))
    made.reset()
    return after(made.predict_action_chunk(before(observation or shown())))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("version", KEPT)
def test_a_checkpoint_of_an_earlier_version_plans_as_it_did(version, arm):
    folder = FIXTURES / version / arm
    kept = load_file(folder / "planned.safetensors")
    action = kept.pop("action")
    # Not bit for bit: kernels differ between machines and releases of torch.
    torch.testing.assert_close(planned(folder, kept), action, atol=1e-4, rtol=1e-4)


def test_there_is_a_checkpoint_of_an_earlier_version():
    assert KEPT
    size = sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file())
    assert size < 2**20


def test_the_defaults_are_a_policy():
    made = make_policy_config("dap", device="cpu")
    assert isinstance(made, DAPConfig)
    assert made.type == "dap"
    assert made.get_optimizer_preset().build([torch.nn.Parameter(torch.zeros(1))])
    assert made.get_scheduler_preset() is not None
    assert made.action_delta_indices == list(range(made.horizon))
    assert made.observation_delta_indices == [0, made.horizon]
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


if __name__ == "__main__":
    make_fixture(Path(sys.argv[1]))
