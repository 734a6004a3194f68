"""A policy that chooses or steers its chunks by what they lead to, and what it remembers of demonstrations for that."""

from itertools import combinations

import pytest
import torch
from test_policy import batch, config, now, policy

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.flow import Choice, Coupling
from lerobot_policy_dap.modeling_dap import DAPPolicy
from lerobot_policy_dap.nets.memory import OutcomeMemory


def test_a_memory_keeps_the_latest():
    memory = OutcomeMemory(4, 1)
    assert memory.kept.shape == (0, 1)
    memory.remember(torch.tensor([[1.0], [2.0], [3.0]]))
    assert sorted(memory.kept.flatten().tolist()) == [1, 2, 3]
    memory.remember(torch.tensor([[4.0], [5.0]]))
    assert sorted(memory.kept.flatten().tolist()) == [2, 3, 4, 5]
    memory.remember(torch.arange(10.0, 20.0).unsqueeze(1))
    assert sorted(memory.kept.flatten().tolist()) == [16, 17, 18, 19]


def test_training_remembers_whole_outcomes_of_what_is_imitated_and_evaluation_nothing():
    made = policy(coupling="two_way", outcome_memory=50, outcome_offsets=(2, 6)).train()
    given = batch(made) | {"task": ["open", "play", "open", "open", "open"]}
    given["observation.images.front_is_pad"][3, -1] = True
    made(given)
    assert int(made.memory.met) == 3
    raw = made._outcome_features(
        {
            key: given[key][[0, 2, 4]][:, [1, 2]].flatten(0, 1)
            for key in ("observation.images.front", "observation.state")
        }
    ).reshape(3, -1)
    torch.testing.assert_close(made.memory.kept, raw)
    made.eval()(given)
    assert int(made.memory.met) == 3


def kept(folder, **options):
    """A policy that has learned from one batch and remembers its outcomes, saved in a folder."""
    made = policy(outcome_memory=64, **options).train()
    made(batch(made))
    made.update()
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("coupling", ["auxiliary", "two_way", "one_way"])
@pytest.mark.parametrize("choose", list(Choice))
def test_what_is_acted_on_is_the_choice_among_what_was_sampled(coupling, choose, tmp_path):
    kept(tmp_path, coupling=coupling, candidates=6, choose=choose)
    made = DAPPolicy.from_pretrained(tmp_path)
    seen = now(batch(made))
    rows = len(seen["observation.state"])
    acted = made.generate(seen)

    made.reset()
    noise, other = made._noise(6 * rows, *made.chunk_shape), made._noise(6 * rows, *made.outcome_shape)
    apart = [
        made.generate(seen, noise[i * rows : (i + 1) * rows], other[i * rows : (i + 1) * rows]).action
        for i in range(6)
    ]
    expected = [made.expected_outcome(seen, a).flatten(1) for a in apart]
    known = made.standardize(made.memory.kept)
    for b in range(rows):
        score = {
            Choice.FIRST: list(range(6)),
            Choice.MEDOID: [float(sum((a[b] - c[b]).norm() for c in apart)) for a in apart],
            Choice.OUTCOME: [float((known - e[b]).norm(dim=1).min()) for e in expected],
        }[choose]
        best = score.index(min(score))
        torch.testing.assert_close(acted.action[b], apart[best][b], atol=1e-5, rtol=1e-5)
        if choose is Choice.OUTCOME:
            torch.testing.assert_close(acted.outcome.flatten(1)[b], expected[best][b], atol=1e-5, rtol=1e-5)


def test_weights_of_one_arm_act_as_another_and_keep_their_memory(tmp_path):
    """With the feedback switched off, those of `two_way` are a policy that hears nothing, as `none` is."""
    made = kept(tmp_path)
    seen = now(batch(made))
    noises = torch.randn(5, *made.chunk_shape), torch.randn(5, *made.outcome_shape)
    chunks = {}
    for coupling in Coupling:
        loaded = DAPPolicy.from_pretrained(tmp_path, config=config(coupling=coupling, outcome_memory=64))
        assert torch.equal(loaded.memory.kept, made.memory.kept)
        chunks[coupling] = loaded.generate(seen, *noises).action
    assert torch.equal(chunks[Coupling.AUXILIARY], chunks[Coupling.NONE])
    feeding = [chunks[arm] for arm in Coupling if arm.feeds_policy]
    assert not any(torch.equal(chunk, chunks[Coupling.NONE]) for chunk in feeding)
    assert not any(torch.equal(one, two) for one, two in combinations(feeding, 2))


def test_a_choice_by_outcome_needs_a_dynamics_and_something_remembered():
    for wrong in (
        {"coupling": "none", "outcome_memory": 8},
        {"coupling": "agnostic", "outcome_memory": 8},  # expects the same of all
        {"coupling": "two_way"},
        {"coupling": "two_way", "outcome_memory": 8, "dynamics_true_weight": 0},
    ):
        with pytest.raises(UserError, match=r"policy\.choose is outcome, which needs"):
            config(choose="outcome", candidates=2, **wrong)
    with pytest.raises(UserError, match=r"policy\.choose is medoid, among a single chunk"):
        config(choose="medoid")
    with pytest.raises(UserError, match="remembers no outcome"):
        policy(choose="outcome", outcome_memory=8, candidates=2).generate(now(batch(policy())))
    with pytest.raises(UserError, match=r"policy\.choose is 'best'"):
        config(choose="best")


@pytest.mark.parametrize("coupling", ["auxiliary", "one_way", "two_way"])
def test_a_steered_chunk_is_expected_to_lead_nearer_to_what_was_demonstrated(coupling, tmp_path):
    made = kept(tmp_path, coupling=coupling)
    seen = now(batch(made))
    noise = 3 * torch.randn(len(seen["observation.state"]), *made.chunk_shape)
    other = torch.randn(len(noise), *made.outcome_shape)

    def chunk(**options):
        loaded = config(coupling=coupling, outcome_memory=64, **options)
        steered = DAPPolicy.from_pretrained(tmp_path, config=loaded)
        done = steered.generate(seen, noise, other)
        known = steered.standardize(steered.memory.kept)
        loaded.num_inference_steps = 1  # as steering sees it
        leads_to = steered.expected_outcome(seen, done.action).flatten(1)
        return done.action, torch.cdist(leads_to, known).min(dim=1).values

    plain, gap = chunk()
    moved, less = chunk(steer=1.0, steer_beyond=0.0)
    assert (less < gap).all()
    assert not torch.allclose(plain, moved)
    same, _ = chunk(steer=1e-9, steer_beyond=0.0)
    torch.testing.assert_close(same, plain)


def test_steering_needs_a_dynamics_that_sees_the_chunk_and_something_remembered():
    for wrong in (
        {"coupling": "none", "outcome_memory": 8},
        {"coupling": "agnostic", "outcome_memory": 8},
        {"coupling": "two_way"},
    ):
        with pytest.raises(
            UserError, match=r"policy\.steer is 0\.1, which needs a coupling whose dynamics sees the chunk"
        ):
            config(steer=0.1, **wrong)
    with pytest.raises(UserError, match=r"policy\.compile_model compiles; use one of them"):
        config(coupling="two_way", outcome_memory=8, steer=0.1, compile_model=True)
    with pytest.raises(UserError, match="remembers no outcome"):
        policy(coupling="two_way", outcome_memory=8, steer=0.1).generate(now(batch(policy())))
    with pytest.raises(UserError, match=r"policy\.steer_beyond is 2; it lies between 0 and 1"):
        config(steer_beyond=2)
