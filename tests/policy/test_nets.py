"""Standardising, effective rank, time embedding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lerobot_policy_dap.nets import ImageEncoder, VelocityMLP, VelocityTransformer, velocity_network
from lerobot_policy_dap.nets.augment import augmented, hue_rotation, random_hue, random_light, random_shift
from lerobot_policy_dap.nets.normalisation import PlanarGroupNorm
from lerobot_policy_dap.nets.statistics import Standardize, effective_rank
from lerobot_policy_dap.nets.transformer import HEAD_DIM
from lerobot_policy_dap.nets.velocity import TimeEmbedding


def test_a_training_batch_is_standardised_by_itself():
    torch.manual_seed(0)
    standardize = Standardize(3)
    mean, std = torch.tensor([1.0, -5.0, 0.0]), torch.tensor([0.01, 3.0, 100.0])
    for scale in (*[1.0] * 300, 7.0):  # a sudden growth does not show in its own batch
        out = standardize(scale * (mean + std * torch.randn(64, 3)))
        torch.testing.assert_close(out.mean(dim=0), torch.zeros(3), atol=1e-3, rtol=0)
        torch.testing.assert_close(out.std(dim=0), torch.ones(3), atol=0.02, rtol=0)


def test_running_statistics_follow_the_data():
    torch.manual_seed(0)
    standardize = Standardize(2)
    for _ in range(300):
        standardize(torch.tensor([1.0, -5.0]) + torch.tensor([0.1, 3.0]) * torch.randn(64, 2))
    torch.testing.assert_close(standardize.running_mean, torch.tensor([1.0, -5.0]), atol=0.3, rtol=0)
    torch.testing.assert_close(standardize.running_var.sqrt(), torch.tensor([0.1, 3.0]), atol=0.2, rtol=0)


def test_a_dead_dimension_stays_at_zero_and_an_outlier_is_drawn_in():
    standardize = Standardize(2)
    for _ in range(200):
        standardize(torch.stack([torch.full((8,), 4.0), torch.randn(8)], dim=1))
    out = standardize.eval()(torch.tensor([[4.0, 1e6]]))
    assert out[0, 0].abs() < 0.1
    assert out[0, 1] == standardize.clip


def test_rows_that_come_one_by_one_are_standardised_by_what_came_before():
    torch.manual_seed(0)
    standardize = Standardize(2, momentum=0.01)
    first = standardize(torch.ones(1, 2))  # which has no spread, and nothing is known yet
    torch.testing.assert_close(first, torch.ones(1, 2), atol=0.02, rtol=0)
    for _ in range(2000):
        standardize(torch.tensor([[1.0, -5.0]]) + torch.tensor([0.1, 3.0]) * torch.randn(1, 2))
    torch.testing.assert_close(standardize.running_mean, torch.tensor([1.0, -5.0]), atol=0.7, rtol=0.02)
    torch.testing.assert_close(standardize.running_var.sqrt(), torch.tensor([0.1, 3.0]), atol=0, rtol=0.2)


def test_rows_that_come_one_by_one_have_the_mean_and_variance_of_what_came_with_fading_weights():
    """Among it, as heavy as what has faded, the standard normal that was there before the first."""
    rows, momentum = torch.tensor([3.0, -1.0, 7.0, 2.0]), 0.3
    standardize = Standardize(1, momentum)
    for row in rows:
        standardize(row.reshape(1, 1))
    weights = momentum * (1 - momentum) ** torch.arange(3, -1, -1)
    mean = (weights * rows).sum()
    variance = (weights * rows.square()).sum() + (1 - momentum) ** 4 - mean.square()
    torch.testing.assert_close((standardize.running_mean[0], standardize.running_var[0]), (mean, variance))


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_effective_rank_of_equal_directions_is_their_number(rank):
    torch.manual_seed(0)
    left = torch.linalg.qr(torch.randn(500, rank)).Q
    right = torch.linalg.qr(torch.randn(20, rank)).Q
    left = left - left.mean(dim=0)
    assert effective_rank(left @ right.T) == pytest.approx(rank, rel=0.02)


def test_effective_rank_of_a_collapsed_latent_is_zero():
    assert effective_rank(torch.ones(10, 4)) == 0


@pytest.mark.parametrize("pixels", [8, 12])
def test_a_shift_moves_whole_images_by_whole_pixels_and_repeats_their_edge(pixels):
    """Against the definition: cut a window out of the image with its edge repeated."""
    torch.manual_seed(0)
    image = torch.rand(40, 3, pixels, pixels)
    out = random_shift(image.unsqueeze(1), size=8, reach=2)[:, 0]
    resized = torch.nn.functional.interpolate(image, size=(8, 8), mode="area")
    padded = torch.nn.functional.pad(resized, (2, 2, 2, 2), mode="replicate")
    windows = [padded[:, :, top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
    equal = torch.stack([(window == out).flatten(1).all(dim=1) for window in windows])  # [25, 40]
    assert equal.any(dim=0).all()
    assert equal.any(dim=1).sum() > 15  # 40 draws of 25 windows


def test_another_light_is_one_light_a_row_within_the_strength_and_changes_nothing_at_zero():
    torch.manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(200, 2, 3, 5, 6)  # nothing is cut off
    assert torch.equal(random_light(images, 0.0), images)
    strength = 0.2
    out = random_light(images, strength)
    # A row's colour is an affine function of itself, the same for all its frames and pixels.
    x, y = (v.transpose(1, 2).reshape(600, -1) for v in (images, out))
    slope = ((x - x.mean(1, keepdim=True)) * y).sum(1) / (x - x.mean(1, keepdim=True)).square().sum(1)
    offset = y.mean(1) - slope * x.mean(1)
    torch.testing.assert_close(slope[:, None] * x + offset[:, None], y, atol=1e-5, rtol=0)
    slopes = slope.reshape(200, 3).log()
    assert slopes.abs().max() <= 2.5 * strength
    assert slopes.abs().max() > 1.5 * strength  # all of it is used
    assert slopes.std(dim=1).max() > 0.1 * strength  # colours differ
    brightness = (out.mean(dim=(1, 3, 4)) / images.mean(dim=(1, 3, 4))).log()
    assert brightness.abs().max() > strength / 2
    assert random_light(images, 3.0).max() <= 1


def test_a_third_of_the_colour_circle_takes_red_to_green_and_greys_stay():
    red, green, blue = torch.eye(3)
    third, none, back = hue_rotation(torch.tensor([1 / 3, 0.0, -1 / 3]))
    torch.testing.assert_close(
        torch.stack([third @ red, third @ green, third @ blue]), torch.stack([green, blue, red])
    )
    assert torch.equal(none, torch.eye(3))
    torch.testing.assert_close(back @ third, torch.eye(3))
    grey = torch.full((3,), 0.4)
    matrices = hue_rotation(torch.linspace(-0.5, 0.5, 7))
    torch.testing.assert_close(matrices @ grey, grey.expand(7, 3))
    torch.testing.assert_close(matrices.sum(dim=1), torch.ones(7, 3))


@pytest.mark.parametrize("autocast", [False, True])
def test_hues_turn_by_one_angle_a_row_within_the_reach(autocast):
    torch.manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(300, 2, 3, 5, 6)  # nothing is cut off
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = random_hue(images, 0.125)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(dim=2), images.sum(dim=2), atol=1e-5, rtol=0)

    def hues(of):  # angle about the grey axis
        red, green, blue = of.double().unbind(dim=2)
        return torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)

    turns = (hues(out) - hues(images) + 0.5) % 1 - 0.5
    of_row = turns.flatten(1)
    torch.testing.assert_close(of_row, of_row[:, :1].expand_as(of_row), atol=1e-3, rtol=0)
    assert 0.1 < of_row.abs().max() <= 0.1251
    assert of_row.min() < -0.1  # to either side
    assert of_row.max() > 0.1
    assert random_hue(torch.rand(50, 1, 3, 4, 4), 0.5).min() >= 0


@pytest.mark.parametrize(
    ("shift", "light", "hue"), [(2, 0.0, 0.0), (0, 0.5, 0.0), (0, 0.0, 0.5), (2, 0.5, 0.0), (2, 0.5, 0.5)]
)
def test_a_share_of_the_rows_is_augmented_and_the_others_are_as_recorded(shift, light, hue):
    torch.manual_seed(0)
    images = torch.rand(400, 2, 3, 8, 8)
    same = (augmented(images, 8, shift, light, hue, share=0.25) == images).flatten(1).all(dim=1)
    assert 0.65 < same.float().mean() < 0.85  # 0.75, and of the shifts one in 25 is none
    assert torch.equal(augmented(images, 8, shift, light, hue, share=0.0), images)


def test_all_rows_are_augmented_as_before_there_was_a_share():
    """Trainings that began without one repeat: nothing more is drawn."""
    images = torch.rand(20, 1, 3, 8, 8)
    torch.manual_seed(0)
    expected = random_light(random_shift(images, 8, 2), 0.5)
    torch.manual_seed(0)
    assert torch.equal(augmented(images, 8, 2, 0.5), expected)


def test_times_are_told_apart():
    embedded = TimeEmbedding(64)(torch.linspace(0, 1, 11))
    distance = torch.cdist(embedded, embedded) + 10 * torch.eye(11)
    assert distance.min() > 0.5


def mlp():
    return VelocityMLP((2, 3), context_dim=4, feedback_dim=5, hidden=8, depth=1)


def transformer():
    return VelocityTransformer((2, 3), context_dim=4, feedback_shape=(5,), hidden=16, depth=1, heads=2)


VELOCITIES = pytest.mark.parametrize("make", [mlp, transformer])


def drawn(seed=0):
    g = torch.Generator().manual_seed(seed)
    x, t, context, feedback = (torch.randn(6, *shape, generator=g) for shape in ((2, 3), (), (4,), (5,)))
    return x, t.sigmoid(), context, feedback


@VELOCITIES
def test_an_untrained_velocity_is_that_of_standard_normal_data(make):
    """Checked against the covariances themselves: E[ε - x | x_t] = Cov(ε - x, x_t) / Var(x_t) · x_t."""
    model = make()
    x, t, context, feedback = drawn()
    slope = (t - (1 - t)) / (t**2 + (1 - t) ** 2)
    expected = slope.reshape(-1, 1, 1) * x
    torch.testing.assert_close(model(x, t, model.condition(t, context), feedback), expected)


@pytest.mark.parametrize("feedback", [1, 500])
def test_a_feedback_that_says_nothing_yet_leaves_the_flow_sample_its_weight(feedback):
    """At first the sample is embedded as by a layer of its own, and the feedback not at all."""
    torch.manual_seed(0)
    embed = VelocityMLP((4, 5), context_dim=4, feedback_dim=feedback, hidden=400, depth=1).embed
    assert not embed.weight[:, 20:].any()
    alone = nn.Linear(20, 400)
    assert embed.weight[:, :20].std().item() == pytest.approx(alone.weight.std().item(), rel=0.03)


def test_a_wider_transformer_has_more_heads_of_one_width():
    for heads in (1, 3):
        made = velocity_network("transformer", (2, 3), (5,), 4, hidden=heads * HEAD_DIM, depth=2)
        assert [block.heads for block in made.blocks] == [heads] * 2


@VELOCITIES
def test_a_missing_feedback_is_the_null_token(make):
    model = make()
    x, t, context, feedback = drawn()
    z = model.condition(t, context)
    for weight in (model.out.weight, model.embed.weight, model.null):
        torch.nn.init.normal_(weight)
    none = model(x, t, z)
    torch.testing.assert_close(model(x, t, z, feedback, torch.zeros(6, dtype=torch.bool)), none)
    some = torch.tensor([True, False] * 3)
    mixed = model(x, t, z, feedback, some)
    torch.testing.assert_close(mixed[~some], none[~some])
    torch.testing.assert_close(mixed[some], model(x, t, z, feedback)[some])
    assert not torch.allclose(mixed[some], none[some])


@VELOCITIES
def test_conditions_of_all_steps_at_once_are_those_of_each(make):
    model = make()
    x, _, context, feedback = drawn()
    torch.nn.init.normal_(model.out.weight)
    times = torch.tensor([[1.0], [0.5], [0.1]])
    together = model.condition(times, context)
    for k, t in enumerate(times.flatten().tolist()):
        one = torch.full((6,), t)
        alone = model(x, one, model.condition(one, context), feedback)
        torch.testing.assert_close(model(x, t, together[k], feedback), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_convolutions_start_at_the_size_that_a_relu_does_not_shrink(kind):
    """Variance 2 / fan-in (He et al. 2015)."""
    torch.manual_seed(0)
    layers = [m for m in ImageEncoder(["a"], 64, 16, 8, kind).modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        wanted = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.15)
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("options", [{"kind": "residual"}, {"kind": "plain_gn"}, {"standardize": True}], ids=str)
def test_a_normalising_encoder_sees_where_things_are(options):
    torch.manual_seed(0)
    encoder = ImageEncoder(["a"], size=64, width=8, dim=16, **options).eval()
    images = torch.zeros(3, 3, 64, 64)
    images[0, :, 8:16, 8:16] = 1
    images[1, :, 40:48, 40:48] = 1
    images[2, :, 8:16, 8:16] = 1
    z = encoder({"a": images})
    assert z.shape == (3, 16)
    torch.testing.assert_close(z[0], z[2])
    assert not torch.allclose(z[0], z[1], atol=1e-3)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels last"]
)
def test_normalisation_plane_by_plane_is_group_normalisation(memory_format):
    torch.manual_seed(0)
    planar, usual = PlanarGroupNorm(8, 16), nn.GroupNorm(8, 16)
    nn.init.normal_(usual.weight)
    nn.init.normal_(usual.bias)
    planar.load_state_dict(usual.state_dict())
    found = []
    for norm in (planar, usual):
        x = torch.randn(3, 16, 5, 7, generator=torch.Generator().manual_seed(1)).contiguous(
            memory_format=memory_format
        )
        x.requires_grad_()
        out = norm(x)
        out.square().sum().backward()
        found.append((out, x.grad, norm.weight.grad, norm.bias.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=20)
@given(
    strength=st.lists(st.floats(0.1, 1.0), min_size=3, max_size=3),
    offset=st.floats(0.0, 0.5),
    seed=st.integers(0, 1000),
)
def test_a_standardised_image_says_nothing_of_the_strength_and_colour_of_its_light(strength, offset, seed):
    """Any positive affine change of a channel leaves the encoding alone."""
    torch.manual_seed(seed)
    encoder = ImageEncoder(["a"], size=36, width=4, dim=8, standardize=True).eval()
    image = torch.rand(2, 3, 36, 36)
    lit = image * torch.tensor(strength).reshape(3, 1, 1) + offset
    torch.testing.assert_close(encoder({"a": lit}), encoder({"a": image}), atol=1e-3, rtol=1e-3)


def test_a_standardised_image_of_one_colour_is_not_blown_up():
    torch.manual_seed(0)
    encoder = ImageEncoder(["a"], size=36, width=4, dim=8, standardize=True).eval()
    black = torch.zeros(1, 3, 36, 36)
    noisy = black + 1e-5 * torch.randn(1, 3, 36, 36)
    assert torch.isfinite(encoder({"a": black})).all()
    torch.testing.assert_close(encoder({"a": noisy}), encoder({"a": black}), atol=0.1, rtol=0)
