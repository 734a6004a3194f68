"""Compiled and eager, bfloat16 and float32, generate the same chunks within stated tolerances."""

import subprocess
import sys

import pytest
import torch
from test_policy import batch, now, policy

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
seen = now(batch(eager, n=3))
eager.reset(), fast.reset()
for _ in range(2):
    one, two = eager.predict_action_chunk(seen), fast.predict_action_chunk(seen)
    assert (one - two).abs().max() < {COMPILED}, (one - two).abs().max()
print("equal")
"""


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
    said = done.stderr.count("cannot compile _flow")
    assert said == (1 if compiler == "missing" else 0), done.stderr[-3000:]


@pytest.mark.parametrize("coupling", ["none", "two_way"])
def test_bfloat16_moves_actions_by_little(coupling):
    made = policy(coupling=coupling).eval()
    seen = now(batch(made, n=32))
    made.reset()
    exact = made.predict_action_chunk(seen)
    made.reset()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made.predict_action_chunk(seen)
    moved = (rounded.float() - exact).square().mean().sqrt()
    assert 0 < moved < BF16
