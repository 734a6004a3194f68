"""A served policy says what the policy itself says: alone, with a history, and in a batch with others."""

import json

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from small_policies import ACTION, CAMERA, STATE, STATISTICS, A, observation, save_checkpoint

from lerobot_policy_dap.checkpoints import policy_config
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.runtime.contract import Contract
from lerobot_policy_dap.runtime.limits import OnUnsafe
from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel
from lerobot_policy_dap.runtime.session import Session

WIDE = ModelOptions(max_batch=4, margin=100.0, max_change=100.0)  # actions pass as they are


def lerobot_actions(folder, observations, seed):
    """What LeRobot's own loop does step by step: `select_action`, one observation a step."""
    config = policy_config(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    policy.reset()
    for seen in observations[:-1]:  # the history; its actions are not looked at
        queue_of(policy).clear()
        policy.select_action(before(as_batch(seen)))
    queue = queue_of(policy)
    queue.clear()
    torch.manual_seed(seed)
    actions = [after(policy.select_action(before(as_batch(observations[-1]))))]
    while queue:
        actions.append(after(queue.popleft()))
    return torch.cat(actions).numpy()


def queue_of(policy):
    """The actions that are still to be executed."""
    if policy.name == "dap":
        return policy._queue
    return policy._queues[ACTION] if hasattr(policy, "_queues") else policy._action_queue


def as_batch(seen):
    return {
        CAMERA: torch.from_numpy(seen[CAMERA]).permute(2, 0, 1).float()[None] / 255,
        STATE: torch.from_numpy(seen[STATE])[None],
        "task": [""],
    }


def requests(served, observations):
    """Each observation as a request of one client, with the history of those before it."""
    session = Session(served.contract.n_obs_steps, 0, 1000)
    return [session.accept(served.contract.read(seen)) for seen in observations]


@pytest.mark.parametrize("kind", ["dap", "dap_looking_back", "act", "diffusion", "vqbet"])
def test_chunks_are_those_of_lerobots_own_loop(checkpoints, kind):
    """Policies that keep a history included: it is each client's own, and never the policy's."""
    folder = checkpoints(kind)
    served = ServedModel(folder, WIDE)
    observations = [observation(i) for i in range(4)]
    asked = requests(served, observations)
    served.plan(requests(served, [observation(99)] * 3))  # somebody else in between leaves nothing behind
    torch.manual_seed(5)
    actions = served.plan([asked[-1]])[0].checked.actions
    expected = lerobot_actions(folder, observations, seed=5)
    np.testing.assert_allclose(actions[: len(expected)], expected, atol=1e-5)
    assert len(actions) == served.chunk >= served.n_action_steps
    # A client that keeps the history itself asks the same.
    steps = served.contract.n_obs_steps
    if steps > 1:
        stacked = {key: np.stack([seen[key] for seen in observations[-steps:]]) for key in (CAMERA, STATE)}
        torch.manual_seed(5)
        again = served.plan([Session(steps, 0, 9).accept(served.contract.read(stacked))])[0].checked.actions
        np.testing.assert_array_equal(again, actions)


@pytest.mark.parametrize("kind", ["act", "vqbet"])
def test_clients_in_one_batch_do_not_see_each_other(checkpoints, kind):
    """Policies without noise: a row of a batch is what the client would get alone."""
    served = ServedModel(checkpoints(kind), WIDE)
    if kind == "vqbet":  # it samples codes: take the likeliest
        served.policy.vqbet.action_head.config.bet_softmax_temperature = 1e-6
    asked = [requests(served, [observation(10 * i + j) for j in range(3)])[-1] for i in range(4)]
    alone = [served.plan([request])[0].checked.actions for request in asked]
    together = [planned.checked.actions for planned in served.plan(asked)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_left_over_is_kept_for_the_delay_and_the_rest_is_unblended(checkpoints):
    model = ServedModel(checkpoints("act"), WIDE)  # it knows no real-time chunking
    assert not model.supports_rtc
    left_over = np.full((4, A), 0.3, np.float32)
    request = model.contract.read({**observation(), "prev_chunk_left_over": left_over, "inference_delay": 2})
    torch.manual_seed(1)
    answered = model.plan([request])[0].checked.actions
    torch.manual_seed(1)
    plain = model.plan([model.contract.read(observation())])[0].checked.actions
    np.testing.assert_array_equal(answered[:2], left_over[:2])
    assert not np.allclose(answered[2], left_over[2])
    np.testing.assert_array_equal(answered[3:], plain[3:])


def test_a_served_dap_continues_the_chunk_under_way(checkpoints):
    model = ServedModel(checkpoints("dap"), WIDE)
    assert model.supports_rtc
    assert model.metadata()["supports_rtc"]
    left_over = np.full((4, A), 0.3, np.float32)
    request = model.contract.read({**observation(), "prev_chunk_left_over": left_over, "inference_delay": 2})
    answers = []
    for asked in (request, model.contract.read(observation())):
        torch.manual_seed(1)
        answers.append(model.plan([asked])[0].checked.actions)
    guided, fresh = answers
    np.testing.assert_allclose(guided[:2], left_over[:2], atol=1e-5)
    assert np.abs(guided[2] - left_over[2]).mean() < np.abs(fresh[2] - left_over[2]).mean()


def test_a_policy_that_knows_real_time_chunking_gets_delay_and_left_over_in_its_own_units(
    checkpoints, monkeypatch
):
    served = ServedModel(checkpoints("dap"), WIDE)
    calls = []
    inner = served.policy.predict_action_chunk

    def predict_action_chunk(batch, inference_delay=0, prev_chunk_left_over=None):
        calls.append((len(batch[STATE]), inference_delay, prev_chunk_left_over))
        return inner(batch)

    monkeypatch.setattr(served.policy, "predict_action_chunk", predict_action_chunk)
    left_over = np.array([[0.6, 1.0], [0.1, -1.0]], np.float32)
    seen = {**observation(), "prev_chunk_left_over": left_over, "inference_delay": 1}
    asked = [served.contract.read(message) for message in (observation(), seen, observation(), seen)]
    assert len(served.plan(asked)) == 4
    assert [call[:2] for call in calls] == [(2, 0), (2, 1)]  # one call for those without, one for those with
    mean, std = (torch.tensor(STATISTICS[ACTION][name]) for name in ("mean", "std"))
    for row in calls[1][2]:
        torch.testing.assert_close(row, (torch.from_numpy(left_over) - mean) / std, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_served_is_said_at_the_start(tmp_path, checkpoints):
    from safetensors.numpy import load_file, save_file

    folder = save_checkpoint(tmp_path / "blind", action={"mean": [0.0] * A, "std": [1.0] * A})
    with pytest.raises(UserError, match="does not say how far its demonstrations' actions went"):
        ServedModel(folder)
    with pytest.raises(UserError, match="is no checkpoint"):
        ServedModel(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"the checkpoint has no observation\.images\.top; it has"):
        ServedModel(checkpoints("dap"), ModelOptions(rename={"top": "observation.images.top"}))
    broken = save_checkpoint(tmp_path / "broken", "act")
    weights = load_file(broken / "model.safetensors")
    save_file({k: v[:1] for k, v in weights.items()}, broken / "model.safetensors")
    with pytest.raises(UserError, match="cannot be loaded"):
        ServedModel(broken)


def test_actions_relative_to_the_state_are_refused_for_nothing_says_where_the_robot_may_go(tmp_path):
    """As LeRobot's pi0 with `use_relative_actions`: the range in the statistics is one of differences."""
    folder = save_checkpoint(tmp_path / "relative", "act")
    file = folder / "policy_postprocessor.json"
    pipeline = json.loads(file.read_text())
    step = {"registry_name": "absolute_actions_processor", "config": {"enabled": False}}
    pipeline["steps"].append(step)
    file.write_text(json.dumps(pipeline))
    ServedModel(folder)
    step["config"]["enabled"] = True
    file.write_text(json.dumps(pipeline))
    with pytest.raises(UserError, match="actions relative to the robot's state"):
        ServedModel(folder)


def test_cameras_that_nobody_has_are_asked_of_nobody(tmp_path):
    inputs = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, 48, 64))
        for name in ("top", "empty_camera_0")
    }
    config = policy_config(save_checkpoint(tmp_path / "vla", inputs=inputs))
    assert list(Contract.of(config, {}).images) == ["observation.images.top"]


def test_a_model_whose_actions_are_not_finite_sends_nothing(checkpoints):
    served = ServedModel(checkpoints("act"), ModelOptions(max_batch=2, on_unsafe=OnUnsafe.CLAMP))
    with torch.no_grad():
        served.policy.model.action_head.bias.fill_(float("nan"))
    refused = served.plan([served.contract.read(observation())])[0]
    assert refused.reason == "not_finite"
