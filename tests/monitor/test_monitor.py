"""The monitor: each client's own episode, files that belong to their weights, and the promised rate."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from monitor_support import EVERY, OFFSETS, batch, episode

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.flow import Coupling
from lerobot_policy_dap.monitor.monitor import Monitor, find_monitor
from lerobot_policy_dap.monitor.scores import SCORES, ScoreName, episode_scores, fit

SETTINGS = {"n_action_steps": EVERY, "source": "a test"}


def made(name=ScoreName.DYNAMICS, episodes=39, seed=0, false_alarm=0.05):
    rng = np.random.default_rng(seed)
    score = fit(name, [episode(rng) for _ in range(20)], OFFSETS)
    return Monitor.calibrated(score, [episode(rng) for _ in range(episodes)], false_alarm, SETTINGS)


def verdicts(monitor, plans, key="robot", steps=False):
    return [monitor.observe(batch([p]), [key], [p.step] if steps else None) for p in plans]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_clean_episodes_raise_alarms_at_the_promised_rate():
    """Over many calibrations and new episodes, with the maximum over chunks: the rate is an episode's."""
    rng = np.random.default_rng(1)
    score = fit(ScoreName.DYNAMICS, [episode(rng) for _ in range(20)], OFFSETS)
    pool = [episode(rng) for _ in range(400)]
    told = [float(np.nanmax(episode_scores(score, plans))) for plans in pool]
    flagged = []
    for _ in range(300):
        chosen = rng.permutation(400)
        monitor = Monitor(score, [np.array([told[i]]) for i in chosen[:39]], 0.05)
        flagged.append(np.mean([told[i] > monitor.threshold for i in chosen[39:79]]))
    assert 0.035 < np.mean(flagged) < 0.06
    monitor = Monitor.calibrated(score, pool[:39], 0.05, SETTINGS)
    for plans, highest in zip(pool[39:60], told[39:60], strict=True):
        assert verdicts(monitor, plans, key=id(plans))[-1].alarm[0] == (highest > monitor.threshold)


def test_an_alarm_stays_until_the_episode_is_reset_and_p_never_rises():
    rng = np.random.default_rng(2)
    monitor = made()
    strange = episode(rng, wrong=24)[:7]
    seen = verdicts(monitor, strange)
    p = [v.p_value[0] for v in seen]
    assert math.isnan(p[0])
    assert np.all(np.diff(p[1:]) <= 0)
    assert [bool(v.alarm[0]) for v in seen] == [False] * 4 + [True] * 3
    assert seen[4].chunk_p_value[0] == pytest.approx(1 / 40)
    assert monitor.observe(batch(strange[:1]), ["robot"]).alarm[0]  # the same episode goes on
    monitor.reset("robot")
    assert not monitor.observe(batch(strange[:1]), ["robot"]).alarm[0]


def test_the_distance_from_what_was_expected_is_a_root_mean_square_whatever_the_score():
    policy = SimpleNamespace(
        config=SimpleNamespace(arm=Coupling.TWO_WAY, outcome_offsets=OFFSETS, n_action_steps=EVERY),
        expected_outcome=None,
    )
    plans = episode(np.random.default_rng(6), wrong=16, noise=0.0)  # it stands still at 16, two plans later
    for monitor in (made(ScoreName.KNN).telling_distance(policy), Monitor.uncalibrated(policy)):
        told = [v.outcome_distance[0] for v in verdicts(monitor, plans[:6])]
        np.testing.assert_allclose(told, [math.nan, 0, 0, EVERY, 2 * EVERY, 2 * EVERY], atol=1e-5)


def test_clients_have_episodes_of_their_own_whatever_their_company():
    rng = np.random.default_rng(3)
    monitor = made()
    good, bad = episode(rng), episode(rng, wrong=24)
    alone = [v.p_value[0] for v in verdicts(monitor, bad, "alone")]
    together = []
    for i in range(len(bad)):
        rows, keys = ([good[i], bad[i]], ["good", "bad"]) if i % 2 else ([bad[i], good[i]], ["bad", "good"])
        verdict = monitor.observe(batch(rows), keys)
        together.append(verdict.p_value[keys.index("bad")])
    np.testing.assert_array_equal(together, alone)
    assert verdict.alarm.tolist() == [key == "bad" for key in keys]


@pytest.mark.parametrize("name", SCORES)
def test_what_is_saved_says_the_same_when_it_is_loaded(folder, name):
    monitor = made(name)
    monitor.save(folder)
    again = find_monitor(folder)
    assert again.describe() == monitor.describe()
    plans = episode(np.random.default_rng(4), wrong=30, far=2.0)
    for ours, theirs in zip(verdicts(monitor, plans), verdicts(again, plans), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    again.save(folder)
    assert json.loads((folder / "monitor.json").read_text())["source"] == "a test"


def test_a_monitor_of_other_weights_is_refused_in_one_line(folder):
    assert find_monitor(folder) is None
    with pytest.raises(UserError, match="dap calibrate"):
        Monitor.load(folder)
    made().save(folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="calibrated for other weights") as caught:
        find_monitor(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "other", "format"])
def test_a_damaged_monitor_is_refused_in_one_line(folder, damage):
    made().save(folder)
    arrays = folder / "monitor.safetensors"
    if damage == "missing":
        arrays.unlink()
    elif damage == "other":
        arrays.write_bytes(arrays.read_bytes()[:-1])
    else:
        (folder / "monitor.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="dap calibrate") as caught:
        find_monitor(folder)
    assert "\n" not in str(caught.value)


def test_too_few_episodes_and_a_score_that_tells_nothing_are_refused():
    with pytest.raises(UserError, match="at least 19"):
        made(episodes=18)
    spread, told, silent = fit(ScoreName.SPREAD, [], ()), np.arange(3.0), np.full(3, np.nan)
    with pytest.raises(UserError, match="18 successful"):  # an episode without a score is none
        Monitor(spread, [told] * 18 + [silent] * 5, 0.05)
    rng = np.random.default_rng(5)
    still = [p._replace(signals=p.signals._replace(spread=np.float32(0))) for p in episode(rng)]
    with pytest.raises(UserError, match="tells nothing apart"):
        Monitor.calibrated(fit(ScoreName.SPREAD, [], ()), [still] * 20, 0.05, SETTINGS)
