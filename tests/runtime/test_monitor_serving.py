"""Served: every client's chunks carry the monitor's verdict on its own episode, and alarms do what was asked."""

import shutil

import numpy as np
import pytest
import torch
from small_policies import STATE, client, observation, save_checkpoint, serving
from test_chunk_player import Scripted, see, settle
from websockets.sync.client import connect

from lerobot_policy_dap.checkpoints import load_policy, policy_config
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.monitor.monitor import Monitor, default_score, scores_of
from lerobot_policy_dap.monitor.scores import Plan, ScoreName, Spread, fit
from lerobot_policy_dap.monitor.signals import Signal, Signals, read_signals
from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel
from lerobot_policy_dap.runtime.player import ChunkPlayer
from lerobot_policy_dap.runtime.refusals import Reason, Refused
from lerobot_policy_dap.runtime.service import Reloader
from lerobot_policy_dap.runtime.watch import Alarms, Judged, OnAlarm
from lerobot_policy_dap.runtime.wire import decode, encode

EVERY = 3  # n_action_steps of the small policies


def batch_of(loaded, seeds):
    seen = [observation(seed) for seed in seeds]
    batch = {key: torch.from_numpy(np.stack([o[key] for o in seen])) for key in seen[0]}
    batch = {key: x.permute(0, 3, 1, 2).float() / 255 if x.ndim == 4 else x for key, x in batch.items()}
    return loaded.preprocess({**batch, "task": [""] * len(seen)})


def calibrate(folder, name=ScoreName.KNN, episodes=20):
    """A monitor that knows the observations of seeds 0 to 59, three chunks an episode."""
    config = policy_config(folder)
    loaded = load_policy(folder, config)

    def episode(i):
        batch = batch_of(loaded, range(3 * i, 3 * i + 3))
        chunk = loaded.policy.predict_action_chunk(batch)
        rows = read_signals(loaded.policy, batch, chunk, frozenset(Signal)).rows()
        return [Plan(EVERY * j, row) for j, row in enumerate(rows)]

    known = [episode(i) for i in range(episodes)]
    offsets = getattr(config, "outcome_offsets", ())
    settings = {"n_action_steps": EVERY, "source": "a test"}
    Monitor.calibrated(fit(name, known, offsets), known, 0.05, settings).save(folder)
    return folder


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A served `dap` with a monitor."""
    folder = calibrate(save_checkpoint(tmp_path_factory.mktemp("watched") / "dap"))
    return ServedModel(folder, ModelOptions(max_batch=8))


def strange(seed=0):
    return {**observation(seed), STATE: np.full(3, 30, np.float32)}


def test_without_a_calibration_a_chunk_still_says_how_far_from_what_was_expected(tmp_path):
    model = ServedModel(save_checkpoint(tmp_path / "dap"), ModelOptions(max_batch=2))
    with serving(model) as server, client(server) as robot:
        assert robot.get_server_metadata()["monitor"] is None
        told = [robot.infer({**observation(i), "step": EVERY * i})["monitor"] for i in range(3)]
        assert [one["outcome_distance"] is None for one in told] == [True, False, False]
        assert all(one["p_value"] is None and not one["alarm"] for one in told)
        assert server.metrics.value("alarms_total") == 0
    blind = ServedModel(save_checkpoint(tmp_path / "none", coupling="none"), ModelOptions(max_batch=2))
    with serving(blind) as server, client(server) as robot:
        assert "monitor" not in robot.infer(observation(0))  # no dynamics: nothing is expected


def test_every_answer_says_how_strange_it_is_and_each_client_has_its_own_episode(watched):
    with serving(watched) as server, client(server) as good, client(server) as bad:
        told = good.get_server_metadata()["monitor"]
        assert (told["score"], told["false_alarm"], told["episodes"]) == ("knn", 0.05, 20)
        for i in range(4):
            fine, alarmed = (
                robot.infer({**see, "step": EVERY * i})["monitor"]
                for robot, see in ((good, observation(i)), (bad, strange(i)))
            )
            assert not fine["alarm"]
            assert 0.05 < fine["p_value"] <= 1
            assert alarmed["alarm"]
            assert alarmed["p_value"] == pytest.approx(1 / 21)
            assert alarmed["first"] == (i == 0)
            assert alarmed["score"] > told["threshold"] > fine["score"]
            assert fine["on_alarm"] == "report"
            # The small policy expects its outcome six steps ahead.
            assert (fine["outcome_distance"] is None) == (i == 0)
        assert bad.infer({**observation(9), "step": 12})["monitor"]["alarm"]
        assert not bad.infer({**observation(9), "reset": True, "step": 0})["monitor"]["alarm"]
        assert server.metrics.value("alarms_total") == 1
        assert server.metrics.value("monitored_total", alarm="on") == 5


def test_stop_refuses_until_the_episode_is_reset(watched):
    with serving(watched, on_alarm=OnAlarm.STOP) as server, client(server) as robot:
        robot.infer(observation(0))
        for see in (strange(), observation(1)):
            with pytest.raises(Refused) as caught:
                robot.infer(see)
            assert caught.value.reason is Reason.ALARM
        assert len(robot.infer({**observation(1), "reset": True})["actions"])


def test_an_alarm_outlives_a_lost_connection(watched):
    """Where the client names its episode, as ours does; openpi's names none, and begins one with each connection."""
    with serving(watched) as server, client(server) as robot:
        assert robot.infer(strange())["monitor"]["first"]
        robot._drop()
        told = robot.infer(observation(1))["monitor"]
        assert robot.reconnections == 1
        assert (told["alarm"], told["first"]) == (True, False)
        robot.reset()
        robot._drop()
        assert not robot.infer(observation(1))["monitor"]["alarm"]
        assert server.metrics.value("alarms_total") == 1
        for see, alarm in ((strange(), True), (observation(1), False)):
            with connect(f"ws://127.0.0.1:{server.port}") as raw:
                raw.recv()
                raw.send(encode(see))
                assert decode(raw.recv())["monitor"]["alarm"] is alarm


def test_an_alarm_outlives_a_new_checkpoint_which_must_have_a_monitor_where_alarms_stop(tmp_path):
    folder = calibrate(save_checkpoint(tmp_path / "dap"))
    fresh = save_checkpoint(tmp_path / "fresh", seed=1)
    served = ServedModel(folder, ModelOptions(max_batch=2))

    def stopped(robot):
        with pytest.raises(Refused, match=r"an alarm in this episode \(p = 0\.0476\)") as caught:
            robot.infer(observation(1))
        return caught.value.reason is Reason.ALARM

    with serving(served, on_alarm=OnAlarm.STOP) as server, client(server) as robot:
        reloader = Reloader(server, folder, served.options)
        with pytest.raises(Refused):
            robot.infer(strange())
        (folder / "monitor.json").unlink()
        assert not server.within(reloader.reload())  # it would let every robot go on
        assert server.model is served
        assert server.metrics.value("reloads_total", outcome="refused") == 1
        shutil.copy(fresh / "model.safetensors", folder)
        calibrate(folder)
        assert server.within(reloader.reload())
        assert stopped(robot)
        robot.reset()
        assert robot.infer(observation(1))["weights"] == server.model.weights[:12] != served.weights[:12]


def test_an_alarm_stays_on_where_the_new_checkpoint_has_no_monitor():
    alarms, judged = Alarms(), Judged(9.0, 0.01, 0.01, None, True)
    assert alarms.kept("a", judged).first
    assert alarms.kept("b", None) is None
    assert alarms.kept("a", None) == Judged(None, None, None, None, True)
    assert alarms.kept("a", judged._replace(alarm=False, p_value=0.5)) == judged._replace(p_value=0.5)


def test_the_alarm_of_a_first_observation_is_not_taken_back_by_saying_again_that_the_episode_begins(watched):
    with serving(watched, on_alarm=OnAlarm.STOP) as server, client(server) as robot:
        called = []
        player = ChunkPlayer(robot, 0.1, alarmed=called.append)
        for see in (strange(), observation(1), observation(2)):
            with pytest.raises(Refused, match="an alarm in this episode"):
                player.act(see)
        assert len(called) == 1
        player.reset()
        assert not player.act(observation(1)).alarm
        player.close()


def test_watching_changes_no_action(watched, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(watched.folder, plain)
    for name in ("monitor.json", "monitor.safetensors"):
        (plain / name).unlink()

    def plans(folder, **options):
        config = policy_config(folder)
        config.monitor, config.inference_seed = options.get("monitor", False), 0
        loaded = load_policy(folder, config)
        loaded.policy.reset()
        return [loaded.policy.select_action(batch_of(loaded, [i])) for i in range(7)], loaded.policy

    (with_, policy), (without, blind) = plans(watched.folder, monitor=True), plans(plain)
    torch.testing.assert_close(torch.cat(with_), torch.cat(without), rtol=0, atol=0)
    assert 0.05 < policy.last_verdict.p_value[0] <= 1
    assert blind.last_verdict is None
    policy.reset()
    assert policy.last_verdict is None
    with pytest.raises(UserError, match="has no monitor"):
        plans(plain, monitor=True)


@pytest.mark.parametrize("kind", ["act", "diffusion", "vqbet"])
def test_other_policies_have_a_spread_where_they_draw_their_chunks(checkpoints, kind):
    config = policy_config(checkpoints(kind))
    loaded = load_policy(checkpoints(kind), config)
    assert scores_of(loaded.policy) == (ScoreName.SPREAD,)
    assert default_score(loaded.policy) is ScoreName.SPREAD
    batch = batch_of(loaded, [0, 1])
    loaded.policy.reset()
    loaded.policy.select_action(batch)  # fills the history of those that have one
    spread = read_signals(loaded.policy, batch, None, frozenset({Signal.SPREAD})).spread
    assert spread.shape == (2,)
    assert np.all(spread == 0) if kind == "act" else np.all(spread > 0)


@pytest.mark.parametrize("kind", ["diffusion", "vqbet"])
def test_a_policy_with_queues_is_served_with_a_monitor_of_its_spread(checkpoints, kind, tmp_path):
    folder = shutil.copytree(checkpoints(kind), tmp_path / kind)
    plans = [[Plan(0, Signals(spread=np.float32(spread)))] for spread in np.linspace(1e-6, 1e-5, 20)]
    Monitor.calibrated(Spread(), plans, 0.05, {"n_action_steps": 4}).save(folder)
    model = ServedModel(folder, ModelOptions(max_batch=2))
    with serving(model) as server, client(server) as robot:
        answers = [robot.infer(observation(seed)) for seed in range(2)]
    assert [answer["monitor"]["alarm"] for answer in answers] == [True, True]
    assert not [key for key in model.watch._heard_of if str(key).startswith("warming up")]


def test_arms_without_dynamics_have_the_other_scores(tmp_path):
    folder = save_checkpoint(tmp_path / "none", coupling="none")
    loaded = load_policy(folder, policy_config(folder))
    assert ScoreName.DYNAMICS not in scores_of(loaded.policy)
    assert ScoreName.KNN in scores_of(loaded.policy)
    folder = save_checkpoint(tmp_path / "auxiliary", coupling="auxiliary")
    loaded = load_policy(folder, policy_config(folder))
    assert ScoreName.DYNAMICS in scores_of(loaded.policy)
    signals = read_signals(loaded.policy, batch_of(loaded, [0]), torch.zeros(1, 6, 2), frozenset({Signal.OUTCOME}))
    assert signals.expected.shape == (1, 1, signals.observed.shape[1])


# The player


class Stopping(Scripted):
    """Refuses every request after the first, as a server that stops on alarms; or what openpi's client makes of it."""

    def __init__(self, error, **options):
        super().__init__(**options)
        self.error = error

    def infer(self, obs):
        answer = super().infer(obs)
        if len(self.asked) > 1:
            raise self.error
        return answer


@pytest.mark.parametrize(
    "error", [Refused(Reason.ALARM, "look"), RuntimeError("Error in inference server:\nalarm: look")], ids=repr
)
def test_an_alarm_that_stops_calls_a_person_once_an_episode(error):
    policy, calls = Stopping(error), []
    player = ChunkPlayer(policy, 0.1, alarmed=calls.append)
    policy.go.release(100)
    for episode in (1, 2):
        said = []
        for step in range(12):
            said.append(player.act(see(step)))
            if player._asked is not None:
                settle(player)
        assert not said[0].alarm
        assert [c.alarm for c in said[-6:]] == [True] * 6
        assert [c.held for c in said[-4:]] == [True] * 4
        assert len(calls) == episode
        player.reset()
        policy.asked.clear()
    assert calls[0] == {"score": None, "chunk_p_value": None, "p_value": None, "outcome_distance": None,
                        "alarm": True, "first": True, "on_alarm": "stop"}  # fmt: skip
    player.close()


def test_an_alarm_that_the_server_forgets_stays_on_in_the_player():
    class Forgetful(Alarmed):
        def infer(self, obs):
            answer = super().infer(obs)
            return {**answer, "monitor": {**answer["monitor"], "alarm": len(self.asked) == 2}}

    policy, calls = Forgetful("report"), []
    player = ChunkPlayer(policy, 0.1, alarmed=calls.append)
    policy.go.release(100)
    alarms = []
    for step in range(20):
        alarms.append(player.act(see(step)).alarm)
        if player._asked is not None:
            settle(player)
    assert alarms == [False] * 4 + [True] * 16
    assert len(calls) == 1
    player.close()


class Alarmed(Scripted):
    """Says of every answer after the first that the alarm is on."""

    def __init__(self, on_alarm, **options):
        super().__init__(**options)
        self.on_alarm = on_alarm

    def infer(self, obs):
        answer = super().infer(obs)
        return {**answer, "monitor": {"alarm": len(self.asked) > 1, "on_alarm": self.on_alarm, "p_value": 0.01}}


def play(on_alarm, steps, **options):
    policy, calls = Alarmed(on_alarm), []
    player = ChunkPlayer(policy, 0.1, alarmed=calls.append, **options)
    policy.go.release(100)
    said = []
    for step in range(steps):
        said.append(player.act(see(step)))
        if player._asked is not None:
            settle(player)
    player.close()
    return said, calls, policy


def test_an_alarm_calls_a_person_once_and_reported_chunks_are_played():
    said, calls, _ = play("report", 20)
    assert len(calls) == 1
    assert calls[0]["p_value"] == 0.01
    assert [float(c.action[0]) for c in said] == list(range(20))
    assert [c.alarm for c in said] == [False] * 4 + [True] * 16


def test_an_alarm_holds():
    said, _, policy = play("hold", 20, hold=lambda last: -last)
    assert [c.held for c in said] == [False] * 4 + [True] * 16
    assert abs(float(said[-1].action[0])) == 3
    assert len(policy.asked) == 2


def test_an_alarm_plays_at_half_speed():
    said, _, policy = play("slow", 12)
    assert [float(c.action[0]) for c in said[:8]] == [0, 1, 2, 3, 3.5, 4, 4.5, 5]
    velocities, _, _ = play("slow", 8, slow=lambda last, action: (action / 2, action / 2))
    assert [float(c.action[0]) for c in velocities[4:]] == [2, 2, 2.5, 2.5]
    assert [asked["step"] for asked in policy.asked[:2]] == [0, 3]
