"""Chunks that continue the one under way, and the flow underneath."""

import pytest
import torch
from lerobot.policies.rtc import RTCConfig
from lerobot.rollout.inference.rtc import supports_rtc_inference
from test_policy import batch, now, policy

from lerobot_policy_dap.flow import sample
from lerobot_policy_dap.realtime import continued, executable, guidance


def planned(made, seed, **continuing):
    torch.manual_seed(seed)
    noise = torch.randn(5, 6, 2)
    return made.predict_action_chunk(now(batch(made)), noise=noise, **continuing)


@pytest.fixture(params=["none", "two_way"])
def made(request):
    return policy(coupling=request.param, inference_seed=None).eval()


def test_what_will_be_executed_before_the_chunk_is_there_is_kept(made):
    under_way = planned(made, 1)[:, 2:]
    chunk = planned(made, 2, inference_delay=3, prev_chunk_left_over=under_way)
    assert torch.equal(chunk[:, :3], under_way[:, :3])
    assert not torch.allclose(chunk[:, 3:4], under_way[:, 3:4])


def test_the_chunk_goes_on_from_there_more_smoothly_than_a_fresh_one(made):
    jumps = {True: 0.0, False: 0.0}
    for seed in range(5):
        under_way = planned(made, seed)[:, 2:]
        fresh = planned(made, seed + 100)
        guided = planned(made, seed + 100, inference_delay=2, prev_chunk_left_over=under_way)
        for chunk in (fresh, guided):
            # The first action of the new plan, against what the old one had for that step.
            jumps[chunk is guided] += (chunk[:, 2] - under_way[:, 2]).abs().mean().item()
    assert jumps[True] < 0.5 * jumps[False]


def test_beyond_the_execution_horizon_the_plan_is_free(made):
    made.config.rtc_config = RTCConfig(execution_horizon=2)
    under_way = planned(made, 1)
    far = under_way.clone()
    far[:, 2:] += 5
    one, other = (planned(made, 2, inference_delay=1, prev_chunk_left_over=left) for left in (under_way, far))
    torch.testing.assert_close(one, other)


def test_real_time_chunking_that_is_switched_off_changes_nothing(made):
    made.config.rtc_config = RTCConfig(enabled=False)
    guided = planned(made, 2, inference_delay=3, prev_chunk_left_over=planned(made, 1))
    assert torch.equal(guided, planned(made, 2))


def test_nothing_left_over_is_an_ordinary_plan(made):
    nothing = torch.zeros(1, 4, 2)  # as LeRobot fills up an empty queue
    assert torch.equal(planned(made, 2, inference_delay=3, prev_chunk_left_over=nothing), planned(made, 2))
    assert torch.equal(planned(made, 2, inference_delay=0, prev_chunk_left_over=None), planned(made, 2))


def test_a_left_over_without_rows_longer_than_a_chunk_and_in_inference_mode(made):
    long = torch.randn(20, 2)
    with torch.inference_mode():
        chunk = planned(made, 2, inference_delay=20, prev_chunk_left_over=long)
    torch.testing.assert_close(chunk, long[:6].expand(5, -1, -1))


def test_lerobots_rollout_takes_the_policy_for_one_that_knows_real_time_chunking(made):
    assert supports_rtc_inference(made)
    assert not supports_rtc_inference(policy(n_obs_steps=2))


def test_a_guided_plan_leaves_the_compiled_one_alone(made):
    def compiled(observation, action_noise, outcome_noise):
        raise AssertionError("the guided flow was compiled")

    made._generate = compiled
    planned(made, 2, inference_delay=1, prev_chunk_left_over=torch.ones(1, 3, 2))


def test_a_large_guidance_weight_does_not_step_over_its_target(made):
    left_over = torch.ones(5, 6, 2)
    made.config.rtc_config = RTCConfig(max_guidance_weight=1000.0)
    chunk = planned(made, 2, inference_delay=0, prev_chunk_left_over=left_over)
    assert (chunk[:, 0] - 1).abs().mean() < (planned(made, 2)[:, 0] - 1).abs().mean()
    assert chunk.abs().max() < 10


def test_a_guide_that_asks_the_policy_changes_nothing():
    made = policy(coupling="two_way").eval()
    context, action_noise = made.context(now(batch(made))), torch.randn(5, 6, 2)
    outcome_noise = torch.randn(5, *made.outcome_shape)
    given = (made.policy, made.dynamics, made.config.arm, context, action_noise, outcome_noise, 3)
    with torch.no_grad():
        plain, guided = sample(*given), sample(*given, guide=lambda a_t, t, velocity: velocity(a_t))
    assert torch.equal(plain.action, guided.action)
    assert torch.equal(plain.outcome, guided.outcome)


def test_the_dynamics_is_told_of_the_guided_chunk():
    made = policy(coupling="two_way", inference_seed=None).eval()
    noise = {"action_noise": torch.randn(5, 6, 2), "outcome_noise": torch.randn(5, *made.outcome_shape)}
    seen = now(batch(made))
    guide = guidance(None, torch.full((5, 6, 2), 3.0), 2, made.config.num_inference_steps)
    plain, guided = made.generate(seen, **noise), made.generate(seen, **noise, guide=guide)
    assert (guided.estimates[-1] - 3)[:, :2].abs().mean() < (plain.estimates[-1] - 3)[:, :2].abs().mean()
    assert not torch.allclose(plain.outcome, guided.outcome)


def test_what_is_executed_meanwhile_is_pulled_fully_and_what_follows_less_and_less():
    guide = guidance(None, torch.ones(1, 6, 2), 3, 10)
    pull = -guide(torch.zeros(1, 6, 2), 0.5, torch.zeros_like)[0, :, 0]
    assert torch.equal(pull[:3], pull[:1].expand(3))
    assert (pull[2:].diff() < 0).all()
    assert pull[-1] > 0


def test_rows_of_zeros_are_no_actions():
    left = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert torch.equal(executable(left), left[None, :3])
    assert torch.equal(executable(left, 2), left[None, :1])
    assert executable(torch.zeros(3, 2)) is None
    assert continued(torch.zeros(2, 4, 1), torch.ones(1, 2, 1), 5).sum() == 4
