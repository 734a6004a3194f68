"""The outcomes that training asks for: of which encoder, which frame, which cell, and what is masked."""

import pytest
import torch
from test_policy import CAMERA, batch, policy

from lerobot_policy_dap.nets import ImageEncoder

STATE = "observation.state"
WRIST = "observation.images.wrist"


def outcome(made, given):
    return made._outcome(given, torch.zeros(len(given["action"]), 1))[0]


def blurred(module):
    for parameter in module.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


def by_hand(made, given, index):
    """The frames at `index` of the batch through the averaged encoder, beside their state, standardised."""
    B = len(given["action"])
    frames = {camera: given[camera][:, index].flatten(0, 1) for camera in made.encoder.cameras}
    with torch.no_grad():
        cells = made.target_encoder(frames, made.config.outcome_grid)
    cells = cells if made.config.outcome_grid else cells.unsqueeze(1)
    state = given[STATE][:, index].flatten(0, 1).unsqueeze(1).expand(-1, cells.shape[1], -1)
    raw = torch.cat([cells, state], dim=-1).flatten(1)
    scaled = (raw - raw.mean(dim=0)) / (raw.var(dim=0, unbiased=False) + 1e-6).sqrt()
    return scaled.clamp(-5, 5).reshape(B, *made.outcome_shape)


@pytest.mark.parametrize("grid", [0, 2])
@pytest.mark.parametrize(("trained", "follows"), [("encoder", False), ("target_encoder", True)])
def test_outcomes_are_what_the_averaged_encoder_sees_and_not_the_trained_one(trained, follows, grid):
    made = policy(outcome_grid=grid).eval()
    given = batch(made)
    before, context = outcome(made, given), made.context(given)
    blurred(getattr(made, trained))
    assert torch.equal(outcome(made, given), before) != follows
    assert torch.equal(made.context(given), context) == follows


@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({}, [1]),
        ({"outcome_offsets": (0,)}, [0]),
        ({"outcome_offsets": (0, 4), "outcome_grid": 2}, [0, 1]),
        ({"outcome_offsets": (2, 6), "n_obs_steps": 2}, [2, 3]),
    ],
    ids=str,
)
def test_training_asks_for_the_frames_as_they_were_recorded(asked, options, index):
    """Whatever light and place the policy is shown them in; the frame of now, too."""
    made = policy(cameras=(CAMERA, WRIST), image_shift=2, image_light=0.5, **options).train()
    blurred(made.target_encoder)
    given = batch(made, n=8)
    made(given)
    ((args, _, _),) = asked
    expected = by_hand(made, given, index).repeat_interleave(2, dim=0)
    torch.testing.assert_close(args[5], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_a_grown_encoder_is_averaged_at_the_decay_of_the_configuration(decay):
    made = policy(ema_decay=decay)
    made.updates.fill_(10_000)
    before = [p.clone() for p in made.target_encoder.parameters()]
    blurred(made.encoder)
    made.update()
    assert int(made.updates) == 10_001
    for old, new, online in zip(before, made.target_encoder.parameters(), made.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, decay * old + (1 - decay) * online)


@pytest.mark.parametrize("grid", [2, 3, 7])
@pytest.mark.parametrize("kind", ["plain", "plain_gn"])
def test_cells_are_in_the_order_of_cameras_rows_and_columns(kind, grid):
    """Bright above right before one camera, below left before the other."""
    torch.manual_seed(0)
    encoder = ImageEncoder(["a", "b"], size=84, width=8, dim=4, kind=kind)
    images = {camera: torch.zeros(1, 3, 84, 84) for camera in "ab"}
    images["a"][..., 4:24, 60:80] = 1
    images["b"][..., 60:80, 4:24] = 1
    cells = []
    for camera, tower in zip("ab", encoder.towers, strict=True):
        features = tower(2 * images[camera] - 1)[0]
        size = features.shape[1]
        edges = [(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]
        cells += [
            features[:, top:bottom, left:right].mean(dim=(1, 2)) for top, bottom in edges for left, right in edges
        ]
    found = encoder(images, grid)[0]
    assert found.shape == encoder.outcome_shape(grid)
    torch.testing.assert_close(found, torch.stack(cells), atol=1e-5, rtol=1e-5)
    dark = encoder({camera: torch.zeros(1, 3, 84, 84) for camera in "ab"}, grid)[0]
    lit = (found - dark).norm(dim=1).reshape(2, grid, grid)
    right, below = lit[0, 0, -1], lit[1, -1, 0]
    assert right > 2 * lit[0, -1, 0]
    assert below > 2 * lit[1, 0, -1]


@pytest.mark.parametrize("coupling", ["none", "auxiliary"])
def test_no_future_frame_changes_what_is_imitated(coupling):
    """The same loss of the policy to the bit, in training, with the images moved about and lit."""
    made = policy(coupling=coupling, image_light=0.5).train()
    one = batch(policy())
    other = {key: value.clone() for key, value in one.items()}
    for key in (CAMERA, STATE):
        other[key][:, 1] = torch.rand_like(other[key][:, 1])
    losses = []
    for given in (one, other):
        torch.manual_seed(0)
        loss, figures = made(given)
        losses.append((figures["policy_loss"], loss.item()))
    (imitation, whole), (imitation_then, whole_then) = losses
    assert imitation == imitation_then
    assert (whole == whole_then) == (coupling == "none")


@pytest.mark.parametrize("history", [1, 2])
def test_no_gradient_runs_from_the_encoding_of_now_to_the_future(history):
    made = policy(n_obs_steps=history).train()
    given = batch(made)
    for key in (CAMERA, STATE):
        given[key].requires_grad_()
    made.context(given, augment=True).square().sum().backward()
    for key in (CAMERA, STATE):
        assert given[key].grad[:, :history].flatten(2).any(dim=-1).all()
        assert not given[key].grad[:, history:].any()


@pytest.mark.parametrize("from_noise", [True, False])
def test_what_the_policy_is_told_in_training_depends_on_the_true_outcome_unless_it_is_made_from_noise(from_noise):
    made = policy(outcome_from_noise=from_noise).train()
    given = batch(made)
    other = given | {key: torch.cat([given[key][:, :1], 1 - given[key][:, 1:]], dim=1) for key in (CAMERA, STATE)}
    losses = []
    for seen in (given, other):
        torch.manual_seed(0)
        losses.append(made(seen)[1])
    before, after = losses
    assert (before["policy_loss"] == after["policy_loss"]) == from_noise
    assert before["dynamics_loss"] != after["dynamics_loss"]


def test_an_outcome_made_from_noise_takes_one_evaluation_and_a_chunk_as_many_as_ever():
    made = policy(outcome_from_noise=True).eval()
    asked = []
    made.dynamics.register_forward_hook(lambda _module, args, _output: asked.append(args[:2]))
    seen = {key: value[:, 0] for key, value in batch(made).items() if key in (CAMERA, STATE)}
    noise = torch.randn(5, *made.chunk_shape), torch.randn(5, *made.outcome_shape)
    got = made.generate(seen, *noise)
    assert len(asked) == made.config.num_inference_steps
    assert all(torch.equal(s_t, noise[1]) and t == 1 for s_t, t in asked)
    expected = made.expected_outcome(seen, got.action, noise[1])
    assert len(asked) == made.config.num_inference_steps + 1
    assert expected.shape == got.outcome.shape


def test_what_lies_past_the_end_is_masked_when_lerobot_has_renamed_the_cameras():
    """`--rename_map` renames observations, and leaves the masks the names of the dataset."""
    made = policy().train()
    ends = batch(made)
    for key in (CAMERA, STATE):
        ends[f"{key}_is_pad"][:, -1] = True
    renamed = {
        key.replace(CAMERA, "observation.images.top") if "_is_pad" in key else key: x for key, x in ends.items()
    }
    for given in (ends, {key: x for key, x in renamed.items() if key != f"{STATE}_is_pad"}):
        assert made._outcome(given, torch.zeros(len(given["action"]), 1))[1].all()
    assert not made._outcome(batch(made), torch.zeros(5, 1))[1].any()
