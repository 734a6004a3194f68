"""Compiled and eager, bfloat16 and float32, generate the same chunks within stated tolerances."""

import subprocess
import sys

import pytest
import torch
from test_policy import batch, now, policy

from lerobot_policy_dap.compiling import in_few_sizes
from lerobot_policy_dap.flow import Coupling, sample

COMPILED = 1e-4
"""Greatest difference of a normalised action between the compiled and the eager graph."""
BF16 = 0.05
"""Root-mean-square difference of normalised actions between bfloat16 and float32: a twentieth of an action's spread."""

SCRIPT = f"""
import sys, torch
sys.path[:0] = {sys.path!r}
import logging; logging.basicConfig()
from test_policy import batch, now, policy
size = {{"num_inference_steps": 2, "coupling": "two_way"}}
eager, fast = policy(**size), policy(**size, compile_model=True)
eager.reset(), fast.reset()
for rows in (3, 4):  # of one compiled size
    seen = now(batch(eager, n=rows))
    one, two = eager.predict_action_chunk(seen), fast.predict_action_chunk(seen)
    assert (one - two).abs().max() < {COMPILED}, (one - two).abs().max()
print("equal")
"""


@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("coupling", ["none", "two_way"])
def test_rows_are_filled_up_to_a_power_of_two_and_cut_off_again(coupling, candidates):
    made = policy(coupling=coupling).eval()
    seen = now(batch(made, n=5))
    seen = {key: seen[key] for key in made._observing.keys}
    noise = [torch.randn(candidates * 5, *shape) for shape in (made.chunk_shape, made.outcome_shape)]
    sizes = []

    def generate(observation, *noise):
        sizes.append(len(observation["observation.state"]))
        return made._flow(observation, *noise)

    with torch.no_grad():
        filled, own = in_few_sizes(generate)(seen, *noise), made._flow(seen, *noise)
    assert sizes == [8]
    for one, two in zip(filled, own, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["as it is", "missing"])
def test_compiled_is_eager_within_tolerance_and_a_missing_compiler_is_said_once(compiler, tmp_path):
    """In a process of its own: the tests' shape checks cannot be compiled."""
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    if compiler == "missing":
        environment |= {"CXX": "/nowhere/c++", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert "equal" in done.stdout, done.stderr[-3000:]
    said = done.stderr.count("cannot compile the generation")
    assert said == (1 if compiler == "missing" else 0), done.stderr[-3000:]


def test_flow_times_are_not_rounded_with_an_encoding_in_bfloat16():
    class Network:
        def condition(self, t, context, feedback_time=None):
            self.times = t
            return context.expand(len(t), -1, -1)

        def __call__(self, x_t, *_):
            return torch.zeros_like(x_t)

    policy, dynamics = Network(), Network()
    encoding = torch.zeros(2, 3, dtype=torch.bfloat16)
    sample(policy, dynamics, Coupling.TWO_WAY, encoding, torch.zeros(2, 4, 1), torch.zeros(2, 3), 10)
    for network in (policy, dynamics):
        assert network.times.flatten().tolist() == pytest.approx([1 - k / 10 for k in range(10)], abs=1e-6)


@pytest.mark.parametrize("state", [0, 3])
@pytest.mark.parametrize("coupling", ["none", "two_way"])
def test_bfloat16_moves_actions_by_little(coupling, state):
    made = policy(coupling=coupling, state=state).eval()
    seen = now(batch(made, n=32))
    made.reset()
    exact = made.predict_action_chunk(seen)
    made.reset()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made.predict_action_chunk(seen)
    moved = (rounded.float() - exact).square().mean().sqrt()
    assert 0 < moved < BF16


@pytest.mark.parametrize("coupling", list(Coupling))
def test_bfloat16_learns_nearly_what_float32_learns(coupling):
    """With images of the preset's size: of the tests' smaller ones, a group that is normalised has two numbers."""
    made = policy(coupling=coupling, image_size=84, image_light=0.0).train()
    given = batch(made, n=16)
    losses, slopes = [], []
    for rounded in (False, True):
        made.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            loss, _ = made(given)
        loss.backward()
        losses.append(loss.item())
        parts = (made.encoder, made.policy)
        slopes.append([torch.cat([p.grad.flatten() for p in part.parameters()]) for part in parts])
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)
    for exact, near in zip(*slopes, strict=True):
        assert torch.nn.functional.cosine_similarity(exact, near, dim=0) > 0.99
