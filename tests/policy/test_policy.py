"""`DAPPolicy` behind LeRobot's interface: no leak of the future, masks, determinism, checkpoints."""

import json
from types import SimpleNamespace

import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.flow import Coupling
from lerobot_policy_dap.modeling_dap import DAPPolicy
from lerobot_policy_dap.observing import imitated

CAMERA = "observation.images.front"
BASE = {"preset": "base", "hidden_dim": 64, "dynamics_hidden_dim": 64}
"""The networks of the preset, at sizes for a test."""


def config(cameras=(CAMERA,), state=3, actions=2, **options):
    inputs = {camera: PolicyFeature(FeatureType.VISUAL, (3, 40, 48)) for camera in cameras}
    if state:
        inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (state,))
    small = {"image_size": 36, "encoder_width": 8, "latent_dim": 8, "hidden_dim": 16, "depth": 1, "horizon": 6}
    return DAPConfig(
        device="cpu",
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (actions,))},
        **{**small, "coupling": "two_way", "n_action_steps": 3, "noise_draws": 2, **options},  # every part at work
    )


def policy(seed=0, **options):
    torch.manual_seed(seed)
    made = DAPPolicy(config(**options))
    for model in (made.policy, made.dynamics):  # untrained, it ignores observation and feedback
        torch.nn.init.normal_(model.out.weight, std=0.3)
        torch.nn.init.normal_(model.embed.weight, std=0.3)
    return made


def batch(made, n=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    T = len(made.config.observation_delta_indices)
    out = {camera: torch.rand(n, T, 3, 40, 48, generator=g) for camera in made.encoder.cameras}
    if made.state_dim:
        out["observation.state"] = torch.randn(n, T, made.state_dim, generator=g)
    out = out | {f"{key}_is_pad": torch.zeros(n, T, dtype=torch.bool) for key in out}
    out["action"] = torch.randn(n, 6, 2, generator=g)
    out["action_is_pad"] = torch.zeros(n, 6, dtype=torch.bool)
    return out


def now(training_batch):
    return {k: v[:, 0] for k, v in training_batch.items() if k.startswith("observation") and "is_pad" not in k}


def test_lerobot_finds_policy_and_processors_by_name():
    assert PreTrainedConfig.get_choice_class("dap") is DAPConfig
    assert get_policy_class("dap") is DAPPolicy
    before, after = make_pre_post_processors(config(), dataset_stats={})
    names = [step.__class__._registry_name for step in (*before.steps, *after.steps)]
    for name in (
        "rename_observations_processor",
        "device_processor",
        "normalizer_processor",
        "unnormalizer_processor",
    ):
        assert name in names


@pytest.mark.parametrize(("coupling", "sizes"), [*((arm, {}) for arm in Coupling), ("two_way", BASE)], ids=str)
@pytest.mark.parametrize(("cameras", "state"), [((CAMERA,), 3), ((CAMERA, "observation.images.wrist"), 3),
                                                ((CAMERA,), 0), ((), 3)])  # fmt: skip
def test_trains_and_acts_with_any_number_of_cameras_and_without_state(coupling, sizes, cameras, state):
    made = policy(coupling=coupling, cameras=cameras, state=state, **sizes)
    made.train()
    loss, figures = made(batch(made))
    loss.backward()
    assert loss.isfinite()
    assert all(isinstance(value, float) for value in figures.values())
    chunk = made.predict_action_chunk(now(batch(made)))
    assert chunk.shape == (5, 6, 2)
    assert chunk.isfinite().all()


@pytest.mark.parametrize("coupling", ["none", "one_way", "two_way"])
def test_the_base_presets_networks_train_act_and_load(coupling, tmp_path):
    made = policy(coupling=coupling, depth=2, latent_dim=16, **BASE).train()
    loss, _ = made(batch(made))
    loss.backward()
    assert all(block.qkv.weight.grad is not None for block in made.policy.blocks)
    made.save_pretrained(tmp_path)
    again = DAPPolicy.from_pretrained(tmp_path)
    seen = now(batch(made))
    made.reset()
    chunk = made.predict_action_chunk(seen)
    assert chunk.shape == (5, 6, 2)
    assert torch.equal(chunk, again.predict_action_chunk(seen))


def test_a_preset_gives_the_sizes_that_are_not_given():
    base = DAPConfig(preset="base")
    assert (base.encoder, base.velocity, base.latent_dim, base.depth) == ("residual", "transformer", 512, 6)
    assert DAPConfig(preset="base", hidden_dim=128).hidden_dim == 128
    assert DAPConfig().encoder == "plain_gn"


def test_images_are_standardised_before_the_presets_own_encoder_alone():
    assert DAPConfig().standardize_images
    assert DAPConfig(preset="base").standardize_images
    assert DAPConfig(encoder="plain_gn").standardize_images
    assert not DAPConfig(encoder="plain").standardize_images
    assert DAPConfig(encoder="resnet18", standardize_images=True).standardize_images


def test_all_arms_have_the_same_weights():
    shapes = {
        arm: {name: tuple(weight.shape) for name, weight in policy(coupling=arm).state_dict().items()}
        for arm in Coupling
    }
    assert all(of == shapes["none"] for of in shapes.values())


@pytest.mark.parametrize("coupling", list(Coupling))
def test_what_is_trained_is_what_a_loss_can_reach(coupling):
    """The dynamics where it is learned, and never the averaged encoder, which follows by itself."""
    made = policy(coupling=coupling, cameras=(CAMERA,))
    trained = {id(p) for p in made.get_optim_params()}
    for part, learned in (
        ("encoder", True),
        ("policy", True),
        ("dynamics", coupling.learns_dynamics),
        ("target_encoder", False),
    ):
        assert all((id(p) in trained) == learned for p in getattr(made, part).parameters()), part


@pytest.mark.parametrize("velocity", ["mlp", "transformer"])
@pytest.mark.parametrize("options", [{"outcome_offsets": (3, 6)}, {"outcome_grid": 2},
                                     {"outcome_offsets": (0,)}, {"outcome_offsets": (0, 4), "outcome_grid": 1}])  # fmt: skip
def test_outcomes_at_several_steps_and_of_several_cells(velocity, options):
    made = policy(
        velocity=velocity,
        hidden_dim=64,
        dynamics_hidden_dim=64,
        cameras=(CAMERA, "observation.images.w"),
        **options,
    )
    made.train()
    given = batch(made)
    loss, _ = made(given)
    loss.backward()
    seen = now(given)
    got = made.generate(seen)
    offsets = len(made.config.outcome_offsets)
    assert got.outcome.shape == (5, offsets, made.outcome_dim)
    assert made.expected_outcome(seen, got.action).shape == got.outcome.shape
    assert made.observed_outcome(seen).shape == (5, made.outcome_dim)


def test_what_is_observed_later_is_what_training_asked_to_expect():
    made = policy(outcome_offsets=(2, 6)).eval()
    made.standardize.running_mean.fill_(0.3)
    made.standardize.running_var.fill_(4.0)
    given = batch(made)
    asked = made._by_offset(made._outcome(given, torch.zeros(5, 1))[0])
    for i, offset in enumerate((2, 6)):
        later = {k: v[:, made.config.observation_delta_indices.index(offset)] for k, v in given.items()
                 if k in (CAMERA, "observation.state")}  # fmt: skip
        torch.testing.assert_close(made.observed_outcome(later), asked[:, i])


def test_a_monitor_is_told_at_which_step_each_chunk_was_planned():
    """Whatever steps lay between plans when it was calibrated."""
    made = policy(n_action_steps=2, monitor=True).eval()
    told = []
    made._monitor = SimpleNamespace(look=lambda *_, steps: told.append(steps), reset=lambda: None)
    for _ in range(2):
        made.reset()
        for _ in range(5):
            made.select_action(now(batch(made)))
    assert told == 2 * [[0] * 5, [2] * 5, [4] * 5]


def test_a_current_frame_target_asks_for_no_other_frame():
    made = policy(coupling="auxiliary", outcome_offsets=(0,)).eval()
    assert made.config.observation_delta_indices == [0]
    given = batch(made)
    torch.testing.assert_close(made.observed_outcome(now(given)), made._outcome(given, torch.zeros(5, 1))[0][:, 0])


@pytest.mark.parametrize("constant", [[CAMERA, "observation.state"], [CAMERA]], ids=["all", "images"])
def test_collapsed_outcomes_are_said_once(constant, caplog):
    made = policy().train()
    given = batch(made, n=8)
    for key in constant:
        given[key][:, 1] = 0.5
    for _ in range(101):
        made(given)
    assert [record.message[:26] for record in caplog.records] == ["the outcomes have collapse"]


@pytest.mark.parametrize("coupling", list(Coupling))
def test_the_encoding_of_now_does_not_see_the_future(coupling):
    made = policy(coupling=coupling).eval()
    one = batch(policy())  # `none` asks for no future, and is shown one all the same
    other = {k: v.clone() for k, v in one.items()}
    for key in (CAMERA, "observation.state"):
        other[key][:, 1] = torch.randn_like(other[key][:, 1])
    assert torch.equal(made.context(one), made.context(other))
    outcome = made._outcome(one, torch.zeros(5, 1))[0]
    assert torch.allclose(outcome, made._outcome(other, torch.zeros(5, 1))[0]) == (coupling == "none")


def test_acting_is_the_same_with_and_without_a_time_axis():
    made = policy().eval()
    full = batch(made)
    with_axis = {k: v for k, v in full.items() if k in (CAMERA, "observation.state")}
    made.reset()
    one = made.predict_action_chunk(with_axis)
    made.reset()
    assert torch.equal(one, made.predict_action_chunk(now(full)))


def test_outcomes_past_the_end_of_the_episode_carry_no_dynamics_loss():
    made = policy().train()
    given = batch(made)
    given[f"{CAMERA}_is_pad"][:, 1] = True
    _, figures = made(given)
    assert figures["dynamics_loss"] == figures["dynamics_true_loss"] == 0


def test_select_action_executes_a_chunk_and_then_plans_again():
    made = policy().eval()
    seen = now(batch(made))
    made.reset()
    chunk = made.predict_action_chunk(seen)
    made.reset()
    actions = [made.select_action(seen) for _ in range(4)]
    for i in range(3):
        assert torch.equal(actions[i], chunk[:, i])
    assert not torch.equal(actions[3], chunk[:, 3])  # the second chunk, from other noise
    made.reset()
    assert torch.equal(made.select_action(seen), chunk[:, 0])


def test_given_noise_decides_the_chunk():
    made = policy(coupling="none").eval()
    noise = torch.randn(5, 6, 2)
    seen = now(batch(made))
    one, two = (made.predict_action_chunk(seen, noise=noise) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, made.predict_action_chunk(seen, noise=noise + 0.1))


def test_the_averaged_encoder_follows_and_is_not_trained():
    made = policy().train()
    assert not any(p.requires_grad for p in made.target_encoder.parameters())
    before = [p.clone() for p in made.target_encoder.parameters()]
    for p in made.encoder.parameters():
        p.data.add_(1.0)
    made.update()
    for old, new, online in zip(before, made.target_encoder.parameters(), made.encoder.parameters(), strict=True):
        decay = 2 / 11  # (1 + n) / (10 + n) at the first update
        torch.testing.assert_close(new, decay * old + (1 - decay) * online)


def test_outcome_statistics_are_frozen_outside_training():
    made = policy().eval()
    before = {k: v.clone() for k, v in made.standardize.state_dict().items()}
    with torch.no_grad():
        made(batch(made))
    assert all(torch.equal(v, before[k]) for k, v in made.standardize.state_dict().items())


def test_figures_tell_a_policy_that_looks_from_one_that_does_not():
    looking, blind = policy().train(), policy().train()
    torch.nn.init.zeros_(blind.encoder.join.weight)
    seen = looking(batch(looking))[1]
    unseen = blind(batch(blind))[1]
    assert seen["image_use"] > 1e-4
    assert unseen["image_use"] == pytest.approx(0, abs=1e-9)
    assert unseen["image_spread"] == pytest.approx(0, abs=1e-6)
    assert seen["image_spread"] > 0.01


def test_both_arms_have_the_same_weights():
    shapes = [{k: v.shape for k, v in policy(coupling=c).state_dict().items()} for c in ("none", "two_way")]
    assert shapes[0] == shapes[1]


def test_saved_and_loaded_it_acts_the_same(tmp_path):
    made = policy().train()
    made(batch(made))
    made.update()
    made.recording = {"world": {"task": "x"}}
    made.save_pretrained(tmp_path)
    again = DAPPolicy.from_pretrained(tmp_path)
    assert again.recording == made.recording
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.state_dict().items())
    made.reset()
    seen = now(batch(made))
    assert torch.equal(made.predict_action_chunk(seen), again.predict_action_chunk(seen))


def test_trained_on_another_dataset_it_has_that_ones_recording(tmp_path):
    made = policy()
    made.recording = {"world": {"task": "x"}}
    made.save_pretrained(tmp_path)
    real = SimpleNamespace(root=tmp_path / "a recording of a real robot")
    assert DAPPolicy.from_pretrained(tmp_path, dataset_meta=real).recording is None


@pytest.mark.parametrize("lost", ["dynamics.out.weight", "target_encoder.join.bias", "standardize.running_mean"])
def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path, lost):
    from safetensors.torch import load_file, save_file

    policy().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=lost):
        DAPPolicy.from_pretrained(tmp_path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    policy().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="not a readable safetensors"):
        DAPPolicy.from_pretrained(tmp_path)


def test_the_configuration_survives_its_file(tmp_path):
    made = config(coupling="none", horizon=12, dynamics_weight=0.25)
    made._save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["type"] == "dap"
    assert PreTrainedConfig.from_pretrained(tmp_path) == made


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"coupling": "three_way"}, "two_way"),
        ({"preset": "huge"}, "small, base"),
        ({"encoder": "vit"}, "plain, plain_gn, residual"),
        ({"velocity": "transformer", "hidden_dim": 100}, "multiple of 64"),
        ({"encoder": "residual", "encoder_width": 12}, "multiple of 8"),
        ({"encoder": "plain_gn", "encoder_width": 12}, "multiple of 8"),
        ({"n_obs_steps": 0}, "n_obs_steps"),
        ({"n_action_steps": 9}, "n_action_steps"),
        ({"image_size": 8}, "image_size"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"feedback_dropout": 1.5}, "feedback_dropout"),
        ({"augmented_share": -0.5}, "augmented_share"),
        ({"image_hue": 0.6}, r"policy\.image_hue is 0\.6; it lies between 0 and 0\.5"),
        ({"time_alpha": 0.0}, r"policy\.time_alpha is 0\.0; it must be above 0"),
        ({"dynamics_weight": -0.5}, r"policy\.dynamics_weight is -0\.5; it cannot be negative"),
        ({"dynamics_true_weight": -1.0}, r"policy\.dynamics_true_weight is -1\.0; it cannot be negative"),
        ({"dynamics_only_ratio": -1.0}, r"policy\.dynamics_only_ratio is -1\.0; it cannot be negative"),
        ({"ema_decay": 1.0}, r"policy\.ema_decay is 1\.0; it must be at least 0 and below 1"),
        ({"ema_decay": -0.1}, r"policy\.ema_decay is -0\.1; it must be at least 0 and below 1"),
        ({"hidden_dim": 15}, r"policy\.hidden_dim is 15; mlp's is a multiple of 2"),
        ({"hidden_dim": 0}, r"policy\.hidden_dim is 0; it must be at least 1"),
        ({"latent_dim": 0}, r"policy\.latent_dim is 0; it must be at least 1"),
        ({"encoder_width": -8}, r"policy\.encoder_width is -8; it must be at least 1"),
        ({"depth": -1}, r"policy\.depth is -1; it must be at least 1"),
        ({"normalization_mapping": {"VISUAL": NormalizationMode.MEAN_STD}}, "leave it IDENTITY"),
    ],
)
def test_a_bad_option_is_named(options, word):
    with pytest.raises(UserError, match=word) as caught:
        config(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dynamics_weight", "dynamics_true_weight", "ema_decay"])
def test_zero_is_no_bad_option(name):
    assert getattr(config(**{name: 0.0}), name) == 0


def test_rows_of_a_dynamics_only_task_teach_the_policy_nothing():
    """Their gradient reaches dynamics and encoder, not the policy: not through the alignment either."""
    made = policy(coupling="two_way", align=True)
    made.train()
    rows = batch(made) | {"task": ["play"] * 5}
    made(rows)[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in made.policy.parameters())
    assert any(p.grad is not None and p.grad.any() for p in made.dynamics.parameters())
    assert any(p.grad is not None and p.grad.any() for p in made.encoder.parameters())


def test_an_encoder_that_the_dynamics_does_not_teach_learns_from_what_is_imitated_alone():
    made = policy(coupling="two_way", align=False, dynamics_teaches_encoder=False).train()
    for task, taught in (("play", False), ("lift", True)):
        made.zero_grad(set_to_none=True)
        made(batch(made) | {"task": [task] * 5})[0].backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in made.encoder.parameters()) == taught
        assert any(p.grad is not None and p.grad.any() for p in made.dynamics.parameters())


def test_a_row_that_is_not_imitated_leaves_the_policys_loss_as_it_is_without_it():
    made = policy(coupling="auxiliary", image_shift=0, dynamics_weight=0, dynamics_true_weight=0).eval()

    def loss(kept, tasks):
        torch.manual_seed(0)
        changed = batch(made)
        changed["action"][3:] += 100 * (1 - kept)
        return made(changed | {"task": tasks})[0].item()

    mixed = ["lift"] * 3 + ["play"] * 2
    assert loss(1, mixed) == loss(0, mixed)
    assert loss(1, ["lift"] * 5) != loss(0, ["lift"] * 5)


def test_other_dynamics_only_tasks_can_be_named():
    made = policy(coupling="auxiliary", dynamics_only_tasks=["wander"])
    only = made.config.dynamics_only_tasks
    assert imitated(batch(made) | {"task": ["play", "wander"]}, only, 2).tolist() == [True, True, False, False]
    assert imitated(batch(made) | {"task": ["play", "lift"]}, only, 2) is None
    assert imitated(batch(made), only, 2) is None


@pytest.mark.parametrize("options", [{"image_light": 0.5}, {"image_light": 0.0, "image_hue": 0.5}])
def test_another_light_or_hue_changes_what_is_seen_in_training_and_never_the_outcome(options):
    made = policy(coupling="two_way", image_shift=0, **options).train()
    given = batch(made)
    torch.manual_seed(0)
    one, other = (made.context(given, augment=True) for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-2)
    plain, lit = (made._outcome(given, z)[0] for z in (made.context(given), one))
    assert torch.equal(plain, lit)
    assert torch.equal(made.eval().context(given), made.context(given))
