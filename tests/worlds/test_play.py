"""Play is a function of its seed, shares nothing with demonstrations and held-out episodes, and is what it is called."""

import numpy as np
import pytest

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.bench.plan import FIRST_SEED as HELD_OUT
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import play as play_module
from lerobot_policy_dap.worlds.play import FIRST_SEED, KINDS, TASK, Play, random_motion, record_play
from lerobot_policy_dap.worlds.record import AFTER_SUCCESS, record
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.shifts import draw
from lerobot_policy_dap.worlds.tasks import expert
from lerobot_policy_dap.worlds.world import MAX_STEPS, World

EVERY = Play(tuple(KINDS), 10 * len(KINDS), ("light_intensity", "distractors"))


@pytest.fixture(scope="module")
def small() -> World:
    """Frames are not what is tested here."""
    return World("drawer-open", settings=RenderSettings(16, 16))


def seed_of(kind: str, nth: int = 0) -> int:
    return [seed for seed in EVERY.seeds(0) if EVERY.kind(seed) == kind][nth]


def test_seeds_are_nobody_elses() -> None:
    assert min(EVERY.seeds(0)) > 10 * HELD_OUT
    assert not set(EVERY.seeds(0)) & set(EVERY.seeds(EVERY.episodes))  # a second collection, by --seed


def test_kinds_take_turns_and_shifts_of_every_severity_come_up() -> None:
    seeds = EVERY.seeds(0)
    assert {EVERY.kind(seed) for seed in seeds[: len(KINDS)]} == set(KINDS)
    assert {EVERY.shift(seed) for seed in Play(("random",), 200, EVERY.varied).seeds(0)} == {
        (factor, severity) for factor in EVERY.varied for severity in range(1, 6)
    }
    assert Play(("random",), 5).shift(seeds[0]) == ("none", 0)


def test_a_share_of_the_play_is_varied_and_the_rest_is_clean() -> None:
    every = Play(("random",), 400, EVERY.varied)
    half = Play(("random",), 400, EVERY.varied, varied_share=0.5)
    shifts = [half.shift(seed) for seed in half.seeds(0)]
    clean = shifts.count(("none", 0))
    assert 160 < clean < 240
    assert all(mine in (("none", 0), every.shift(seed)) for mine, seed in zip(shifts, half.seeds(0), strict=True))
    for share in (-0.1, 1.1):
        with pytest.raises(UserError, match="--varied-share"):
            Play(("random",), 5, EVERY.varied, varied_share=share)


def test_a_varied_episode_is_not_lit_as_any_held_out_one(scene) -> None:
    """Severity is shared with the bench; direction and amount within it come of the seed alone."""
    held_out = [draw("light_direction", 3, scene, HELD_OUT + i).values["light_dir"] for i in range(50)]
    for seed in EVERY.seeds(0)[:10]:
        mine = draw("light_direction", 3, scene, seed).values["light_dir"]
        assert not any(np.array_equal(mine, theirs) for theirs in held_out)


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_is_a_function_of_its_seed(small: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_module, "STEPS", 12)
    seed = seed_of(kind)
    first = record_play(EVERY, small, seed)
    other = record_play(EVERY, small, seed_of(kind, 1))
    again = record_play(EVERY, small, seed)
    np.testing.assert_array_equal(first.action, again.action)
    np.testing.assert_array_equal(first.state, again.state)
    np.testing.assert_array_equal(first.frames["corner2"], again.frames["corner2"])
    assert not np.array_equal(first.state, other.state)
    assert first.action.dtype == first.state.dtype == np.float32
    assert np.abs(first.action).max() <= 1


def test_each_kind_differs_from_the_expert_as_it_says(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_module, "STEPS", 80)
    kinds = {kind: record_play(Play((kind,), 1), small, FIRST_SEED) for kind in KINDS}
    plain = record(small, expert("drawer-open-v3"), FIRST_SEED, 80).action
    np.testing.assert_array_equal(kinds["expert"].action, plain)
    start = kinds["expert"].state[0]
    for kind in ("noisy", "perturbed", "random"):
        np.testing.assert_array_equal(kinds[kind].state[0], start)
        assert np.abs(kinds[kind].action[:10] - plain[:10]).mean() > 0.05
    assert not np.allclose(kinds["reset_free"].state[0], start)
    random, noisy = kinds["random"].action[:, :3], kinds["noisy"].action[:, :3]
    assert np.abs(np.diff(random, axis=0)).mean() < 0.5 * np.abs(np.diff(noisy, axis=0)).mean()  # smooth


def test_random_motion_stays_about_the_object() -> None:
    act, place, thing = random_motion(np.random.default_rng(0)), np.zeros(3), np.array([0.1, 0.6, 0.1])
    distances = []
    for _ in range(2000):
        place = place + 0.01 * act(np.concatenate([place, [1], thing, np.zeros(32)]))[:3]
        distances.append(np.linalg.norm(place - thing))
    assert np.median(distances[200:]) < 0.2
    assert np.max(distances[200:]) > 0.1  # and does not sit on it


def test_the_longest_episode_fits_into_meta_worlds() -> None:
    assert max(behaviour.lead_in[1] for behaviour in KINDS.values()) + play_module.STEPS <= MAX_STEPS


def test_an_episode_goes_on_after_success_and_then_ends(small: World) -> None:
    episode = record_play(Play(("expert",), 1), small, FIRST_SEED)
    assert episode.success_step is not None
    assert len(episode.action) == episode.success_step + AFTER_SUCCESS


def test_a_policy_knows_play_by_the_text_that_the_collection_gives_it() -> None:
    assert TASK in DAPConfig().dynamics_only_tasks


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (((), 3), "names no kind"),
        ((("dance",), 3), "unknown kind of play 'dance'; choose among: expert, noisy"),
        ((("random",), 0), "--play-episodes is 0"),
        ((("random",), 3, ("fog",)), "unknown shift 'fog'"),
        ((("random",), 3, ("none",)), "is no factor"),
    ],
)
def test_bad_input_is_named(asked, message) -> None:
    with pytest.raises(UserError, match=message):
        Play(*asked)
