"""What a camera does to a picture, against closed forms."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageEnhance
from worlds_support import ROOM_ALONE

from lerobot_policy_dap.worlds.shifts import sensor
from lerobot_policy_dap.worlds.shifts.color import (
    at_distance,
    delta_e,
    from_linear,
    lamp_gains,
    planckian_xy,
    to_lab,
    to_linear,
    to_rgb,
)

FRAMES = arrays.arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3)))
EFFECTS = [
    (sensor.noise, 10.0),
    (sensor.blur, 1.5),
    (sensor.jpeg, 30.0),
    (sensor.exposure, -1.0),
    (sensor.colour_temperature, 3000.0),
    (sensor.brightness, 1.4),
    (sensor.contrast, 0.6),
]
IDENTITIES = [
    (sensor.noise, 0.0),
    (sensor.blur, 0.0),
    (sensor.exposure, 0.0),
    (sensor.colour_temperature, 6504.0),
    (sensor.brightness, 1.0),
    (sensor.contrast, 1.0),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def named(case: object) -> str:
    return getattr(case, "__name__", str(case))


@pytest.mark.parametrize(("effect", "magnitude"), EFFECTS, ids=named)
@settings(max_examples=10, deadline=None)
@given(frame=FRAMES)
def test_an_effect_is_pure_and_repeatable(effect, magnitude, frame) -> None:
    before = frame.copy()
    first = effect(frame, magnitude, rng())
    assert first.dtype == np.uint8
    assert first.shape == frame.shape
    np.testing.assert_array_equal(effect(frame, magnitude, rng()), first)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(("effect", "magnitude"), IDENTITIES, ids=named)
@settings(max_examples=10, deadline=None)
@given(frame=FRAMES)
def test_no_magnitude_is_no_change(effect, magnitude, frame) -> None:
    np.testing.assert_array_equal(effect(frame, magnitude, rng()), frame)


def test_noise_has_its_standard_deviation_and_no_mean() -> None:
    error = sensor.noise(np.full((200, 200, 3), 128, np.uint8), 12, rng()).astype(float) - 128
    assert error.std() == pytest.approx(12, rel=0.02)
    assert error.mean() == pytest.approx(0, abs=0.15)
    assert abs(np.corrcoef(error[..., 0].ravel(), error[..., 1].ravel())[0, 1]) < 0.02


def test_blur_of_a_point_is_a_gaussian_of_its_standard_deviation() -> None:
    frame = np.zeros((61, 61, 3), np.uint8)
    frame[28:33, 28:33] = 255
    blurred = sensor.blur(frame, 4, rng())[..., 0].astype(float)
    place = np.arange(61) - 30
    variance = (blurred.sum(axis=0) * place**2).sum() / blurred.sum()
    assert variance == pytest.approx(16 + (25 - 1) / 12, rel=0.05)  # of the Gaussian and of the square


def test_exposure_doubles_the_light_each_stop() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    for stops in (-2, -1, 1, 1.5):
        ratio = to_linear(sensor.exposure(grey, stops, rng()) / 255) / to_linear(grey / 255)
        np.testing.assert_allclose(np.log2(ratio), stops, atol=0.05)
    assert (sensor.exposure(grey, 6, rng()) == 255).all()


def test_brightness_and_contrast_are_linear_in_values() -> None:
    frame = np.stack([np.full((8, 8), value) for value in (60, 100, 140)], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(sensor.brightness(frame, 1.5, rng())[0, 0], [90, 150, 210])
    halved = sensor.contrast(frame, 0.5, rng())[0, 0].astype(float)
    np.testing.assert_allclose(np.diff(halved), 20, atol=1)


@pytest.mark.parametrize("factor", [0.4, 1.7])
def test_brightness_and_contrast_are_pillows(factor: float) -> None:
    """Within the level by which Pillow rounds the mean grey and cuts off fractions."""
    colours = rng().integers(0, 256, (32, 32, 3)) * np.array([1.0, 0.5, 0.2])  # far from grey
    frame = colours.astype(np.uint8)
    for effect, theirs in (
        (sensor.brightness, ImageEnhance.Brightness),
        (sensor.contrast, ImageEnhance.Contrast),
    ):
        expected = np.array(theirs(Image.fromarray(frame)).enhance(factor)).astype(int)
        np.testing.assert_allclose(effect(frame, factor, rng()), expected, atol=1.01)


def test_jpeg_is_worse_at_lower_quality() -> None:
    frame = sensor.blur(rng().integers(0, 256, (96, 96, 3), dtype=np.uint8), 2, rng())
    errors = [np.abs(sensor.jpeg(frame, q, rng()).astype(int) - frame).mean() for q in (90, 60, 30, 10)]
    assert all(worse > better for better, worse in pairwise(errors))


def test_black_bodies_have_the_published_chromaticities() -> None:
    """CIE 15: illuminant A is a black body of 2856 K; those of 4000 and 10000 K as tabulated."""
    for kelvin, xy in {2856: (0.4476, 0.4074), 4000: (0.3805, 0.3767), 10000: (0.2807, 0.2884)}.items():
        np.testing.assert_allclose(planckian_xy(kelvin), xy, atol=0.0015)
    for kelvin in (1000, 30000):
        with pytest.raises(ValueError, match=str(kelvin)):
            planckian_xy(kelvin)


@settings(max_examples=30, deadline=None)
@given(kelvin=st.floats(1700, 25000))
def test_lamps_keep_their_luminance_and_turn_red_below_and_blue_above(kelvin: float) -> None:
    gains = lamp_gains(kelvin)
    assert np.array([0.2126, 0.7152, 0.0722]) @ gains == pytest.approx(1, abs=1e-3)
    assert (gains[0] > gains[2]) == (kelvin < 6504)


@settings(max_examples=25, deadline=None)
@given(rgb=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_colour_spaces_and_back(rgb: list[float]) -> None:
    np.testing.assert_allclose(to_rgb(to_lab(np.array(rgb))), rgb, atol=1e-6)
    np.testing.assert_allclose(from_linear(to_linear(np.array(rgb))), rgb, atol=1e-6)


def test_cielab_of_known_colours() -> None:
    """Lindbloom's values for the sRGB primaries under D65."""
    known = {(1, 1, 1): (100, 0, 0), (1, 0, 0): (53.24, 80.09, 67.20), (0, 0, 1): (32.30, 79.19, -107.86)}
    for rgb, lab in known.items():
        np.testing.assert_allclose(to_lab(np.array(rgb, float)), lab, atol=0.05)


def test_colours_move_together_where_they_can() -> None:
    greys = np.array([[0.4, 0.4, 0.4], [0.6, 0.6, 0.6]])
    moved = at_distance(greys, 30, 50, rng())
    np.testing.assert_allclose(delta_e(greys, moved), 30, atol=1e-6)
    np.testing.assert_allclose(*(to_lab(moved) - to_lab(greys)), atol=1e-6)
    apart = at_distance(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), 30, 80, rng())
    np.testing.assert_allclose(delta_e(np.array([[0.0] * 3, [1.0] * 3]), apart), 30, atol=1e-6)


def test_every_distance_up_to_the_reach_can_be_shown() -> None:
    """Of saturated colours too, from which a ray may leave what can be shown and end inside again."""
    for seed in range(150):
        color = rng(seed).choice([0.0, 0.1, 1.0], size=(1, 3))
        for distance in (15, 30, 45, 60, 75):
            moved = at_distance(color, distance, 75, rng(seed))
            assert delta_e(color, moved) == pytest.approx(distance, abs=1e-6)


@pytest.mark.slow
def test_they_need_no_simulator() -> None:
    code = f"{ROOM_ALONE}\nfrom lerobot_policy_dap.worlds.shifts import sensor\nassert 'mujoco' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
