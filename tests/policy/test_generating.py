"""Chunks and expected outcomes: what they cost, that no row sees another, seeds, and `base` at its own sizes."""

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from test_policy import BASE, CAMERA, batch, now, policy

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.flow import Coupling
from lerobot_policy_dap.modeling_dap import DAPPolicy

WRIST = "observation.images.wrist"
ORDER = [3, 0, 4, 2, 1]


@pytest.mark.parametrize("coupling", ["none", "auxiliary", "agnostic", "one_way", "two_way"])
@pytest.mark.parametrize(
    ("velocity", "options"),
    [
        ("mlp", {}),
        ("mlp", {"outcome_offsets": (3, 6), "outcome_grid": 2, "n_obs_steps": 2}),
        ("transformer", {}),
        ("transformer", {"outcome_offsets": (3, 6), "outcome_grid": 2, "encoder": "residual"}),
    ],
    ids=str,
)
def test_rows_in_another_order_give_the_same_chunks_in_that_order(coupling, velocity, options):
    sizes = {"hidden_dim": 64, "dynamics_hidden_dim": 64, "cameras": (CAMERA, WRIST)}
    made = policy(coupling=coupling, velocity=velocity, **sizes, **options).eval()
    history = made.config.n_obs_steps
    seen = {
        key: value[:, :history]
        for key, value in batch(made).items()
        if key.startswith("observation") and "is_pad" not in key
    }
    mixed = {key: value[ORDER] for key, value in seen.items()}
    noise = torch.randn(5, *made.chunk_shape), torch.randn(5, *made.outcome_shape)
    one, other = made.generate(seen, *noise), made.generate(mixed, *(x[ORDER] for x in noise))
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(other.action, one.action[ORDER], **close)
    assert torch.cdist(one.action.flatten(1), one.action.flatten(1)).add(torch.eye(5)).min() > 0.1
    if coupling == "none":
        return
    if coupling != "auxiliary":
        torch.testing.assert_close(other.outcome, one.outcome[ORDER], **close)
    expected = made.expected_outcome(seen, one.action)
    torch.testing.assert_close(made.expected_outcome(mixed, one.action[ORDER]), expected[ORDER], **close)
    assert not torch.allclose(expected[ORDER], expected, atol=1e-2)


@pytest.mark.parametrize("coupling", list(Coupling))
@pytest.mark.parametrize("sizes", [{}, BASE], ids=["small", "base"])
def test_a_chunk_takes_k_evaluations_of_the_policy_and_with_feedback_as_many_of_the_dynamics(coupling, sizes):
    made = policy(coupling=coupling, n_action_steps=3, **sizes).eval()
    asked = []
    for model in (made.encoder, made.policy, made.dynamics):
        model.register_forward_hook(lambda model, *_: asked.append(model))
    seen = now(batch(made))
    for _ in range(3 + 1):  # the chunk's actions, and one of the next chunk
        made.select_action(seen)
    steps = made.config.num_inference_steps
    counts = [asked.count(model) for model in (made.encoder, made.policy, made.dynamics)]
    assert counts == [2, 2 * steps, 2 * steps if coupling.feeds_policy else 0]


@pytest.mark.parametrize("coupling", ["none", "two_way"])
def test_another_seed_gives_another_chunk(coupling):
    made, same, other = (policy(coupling=coupling, inference_seed=seed).eval() for seed in (0, 0, 1))
    seen = now(batch(made))
    chunk = made.predict_action_chunk(seen)
    assert torch.equal(same.predict_action_chunk(seen), chunk)
    assert not torch.allclose(other.predict_action_chunk(seen), chunk, atol=0.1)


def test_without_a_seed_every_reset_begins_with_other_noise_and_torchs_own_seed_decides():
    made = policy(inference_seed=None).eval()
    seen = now(batch(made))

    def chunk():
        made.reset()
        return made.predict_action_chunk(seen)

    torch.manual_seed(0)
    one, other = chunk(), chunk()
    assert not torch.allclose(one, other, atol=0.1)
    torch.manual_seed(0)
    assert torch.equal(chunk(), one)


def test_a_seeded_policy_leaves_torchs_own_noise_alone():
    made = policy(inference_seed=0).eval()
    state = torch.get_rng_state()
    made.select_action(now(batch(made)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_the_base_preset_trains_and_acts_at_its_own_sizes():
    """Two cameras, no state, a history, and the actions of a humanoid."""
    cameras = (CAMERA, WRIST)
    torch.manual_seed(0)
    made = DAPPolicy(
        DAPConfig(
            device="cpu",
            preset="base",
            coupling="two_way",
            n_obs_steps=2,
            input_features={camera: PolicyFeature(FeatureType.VISUAL, (3, 96, 96)) for camera in cameras},
            output_features={"action": PolicyFeature(FeatureType.ACTION, (17,))},
        )
    ).train()
    given = {camera: torch.rand(2, 3, 3, 96, 96) for camera in cameras} | {"action": torch.randn(2, 16, 17)}
    optimizer = made.config.get_optimizer_preset().build(made.get_optim_params())
    before = {name: p.clone() for name, p in made.named_parameters()}
    loss, figures = made(given)
    loss.backward()
    optimizer.step()
    made.update()
    assert loss.isfinite()
    assert figures["outcome_spread"] > 0
    for part in ("encoder", "policy", "dynamics", "target_encoder"):
        assert any(
            not torch.equal(p, before[f"{part}.{name}"]) for name, p in getattr(made, part).named_parameters()
        )
    done = made.generate({camera: given[camera][:, :2] for camera in cameras})
    assert done.action.shape == (2, 16, 17)
    assert done.outcome.shape == (2, 1, 512)
    assert done.action.isfinite().all()
    assert done.outcome.isfinite().all()
