"""Choosing among sampled chunks, against the definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_policy_dap.flow.choice import Choice, chosen, medoid, nearest, take
from lerobot_policy_dap.flow.sampler import Sample


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_the_medoid_and_the_nearest_are_what_their_definitions_say(N, B, seed):
    chunks, outcomes, known = (
        drawn(N, B, 3, 2, seed=seed),
        drawn(N, B, 4, seed=seed + 1),
        drawn(7, 4, seed=seed + 2),
    )
    for b in range(B):
        sums = [sum((chunks[i, b] - chunks[j, b]).norm() for j in range(N)) for i in range(N)]
        assert sums[medoid(chunks)[b]] <= min(sums) + 1e-4
        gaps = [min((outcomes[i, b] - k).norm() for k in known) for i in range(N)]
        assert gaps[nearest(outcomes, known)[b]] <= min(gaps) + 1e-4


@pytest.mark.parametrize("choice", list(Choice))
def test_chunk_outcome_and_estimates_are_of_one_candidate(choice):
    N, B, K = 5, 3, 2
    action = drawn(N * B, 4, 2)
    outcome = action.flatten(1)[:, :6].clone()
    estimates = torch.stack([action + 1, action + 2])
    known = drawn(9, 6, seed=4)
    one = chosen(Sample(action, outcome, estimates), N, choice, lambda: known)
    assert one.action.shape == (B, 4, 2)
    assert torch.equal(one.outcome, one.action.flatten(1)[:, :6])
    assert torch.equal(one.estimates, torch.stack([one.action + k for k in range(1, K + 1)]))
    for b in range(B):  # a row gets a candidate of its own
        assert any(torch.equal(one.action[b], action[i * B + b]) for i in range(N))
    places = {
        Choice.FIRST: torch.zeros(B, dtype=torch.int64),
        Choice.MEDOID: medoid(action.unflatten(0, (N, B))),
        Choice.OUTCOME: nearest(outcome.unflatten(0, (N, B)), known),
    }[choice]
    assert torch.equal(one.action, take(action.unflatten(0, (N, B)), places))


def test_an_outlier_is_never_the_medoid_and_what_was_demonstrated_is_nearest():
    chunks = torch.zeros(4, 1, 2, 1)
    chunks[2] = 100
    assert medoid(chunks)[0] != 2
    outcomes = torch.tensor([[[5.0]], [[1.1]], [[-3.0]]])
    assert nearest(outcomes, torch.tensor([[1.0], [20.0]]))[0] == 1
