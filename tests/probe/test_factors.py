"""The image factors do what their units say, and repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.probe import occlusion
from lerobot_policy_dap.probe.factors import FACTORS, check_factors
from lerobot_policy_dap.worlds.shifts.color import to_linear

SIZES = st.tuples(st.integers(24, 90), st.integers(24, 90))
SEEDS = st.integers(0, 10_000)


def frames(size=(60, 80), n=2):
    return np.random.default_rng(1).integers(40, 216, size=(n, *size, 3), dtype=np.uint8)


def shifted(name, images, severity, seed=3, camera="top", episode=5, frame=7):
    return FACTORS[name].shift(images, severity, seed, camera, episode, frame)


@given(SIZES, SEEDS, st.sampled_from((2.0, 5.0, 10.0, 20.0, 30.0)))
@settings(max_examples=40, deadline=None)
def test_patches_cover_the_share_that_they_promise(size, seed, percent):
    """To within a row of one patch, whose width is a third of the image at most."""
    canvas = np.zeros((*size, 3), np.uint8)
    one, two = (occlusion.patches(canvas + level, percent, np.random.default_rng(seed)) for level in (0, 255))
    pixel = 1 / (size[0] * size[1])
    covered = (one == two).all(axis=-1).sum() * pixel
    assert -pixel <= covered - percent / 100 <= 0.31 / size[0] + pixel


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_larger_share_keeps_the_patches_of_a_smaller(seed):
    grey = np.full((60, 80, 3), 128, np.uint8)
    few, many = (occlusion.patches(grey, percent, np.random.default_rng(seed)) for percent in (5.0, 20.0))
    touched = (few != grey).any(axis=-1)
    assert (many[touched] == few[touched]).all()


@given(SIZES, SEEDS, st.sampled_from((80.0, 45.0, 20.0)))
@settings(max_examples=40, deadline=None)
def test_the_core_of_a_shadow_has_the_light_that_is_left(size, seed, percent):
    grey = np.full((*size, 3), 200, np.uint8)
    dark = occlusion.shadow(grey, percent, np.random.default_rng(seed))
    left = to_linear(dark[..., 0] / 255) / to_linear(np.array(200 / 255))
    assert left.max() <= 1.001
    half = (left < (1 + percent / 100) / 2).mean()
    assert half == pytest.approx(occlusion.SHADOW_SHARE, abs=0.03)
    assert left.min() == pytest.approx(percent / 100, abs=0.03)


def test_the_edge_of_a_shadow_is_soft():
    dark = occlusion.shadow(np.full((120, 160, 3), 200, np.uint8), 20.0, np.random.default_rng(0))[..., 0].astype(
        int
    )
    assert max(np.abs(np.diff(dark, axis=axis)).max() for axis in (0, 1)) < 40


@pytest.mark.parametrize("name", FACTORS)
def test_severity_zero_is_the_frame_itself(name):
    images = frames()
    result = shifted(name, images, 0)
    assert (result == images).all()
    assert result is not images


@pytest.mark.parametrize("name", FACTORS)
def test_every_severity_changes_more_than_the_last_and_repeats(name):
    images = np.kron(
        frames((8, 10)), np.ones((1, 8, 8, 1), np.uint8)
    )  # squares, so that there is something to blur
    changes = []
    for severity in range(1, 6):
        result = shifted(name, images, severity)
        assert result.shape == images.shape
        assert result.dtype == np.uint8
        assert (result == shifted(name, images, severity)).all()
        changes.append(np.abs(result.astype(int) - images).mean())
    assert changes[0] > 0
    assert changes == sorted(changes)


def test_a_place_lasts_for_an_episode_and_noise_for_a_frame():
    same = np.repeat(frames(n=1), 2, axis=0)
    patches = shifted("patches", same, 3)
    assert (patches[0] == patches[1]).all()
    assert (shifted("patches", same, 3, frame=8) == patches).all()
    assert (shifted("patches", same, 3, episode=6) != patches).any()
    assert (shifted("patches", same, 3, camera="wrist") != patches).any()
    noise = shifted("noise", same, 3)
    assert (noise[0] != noise[1]).any()
    assert (shifted("noise", same, 3, frame=8) != noise).any()


def test_blur_is_in_shares_of_the_height():
    """The same picture at twice the size is blurred by twice the pixels."""
    small = frames((40, 40), n=1)
    large = np.kron(small, np.ones((1, 2, 2, 1), np.uint8))
    reduced = shifted("blur", large, 5)[0].reshape(40, 2, 40, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - shifted("blur", small, 5)[0]).mean() < 12 < np.abs(reduced - small[0]).mean()


@pytest.mark.parametrize(
    ("names", "severities", "said"),
    [
        (("fog",), (1,), "unknown factor 'fog'"),
        (("noise",), (6,), "severity is 6"),
        ((), (1,), "nothing to probe"),
    ],
)
def test_unknown_factors_and_severities(names, severities, said):
    with pytest.raises(UserError, match=said):
        check_factors(names, severities)
