"""Several processes: sharded parameters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_sharded_step_of_two_processes_is_the_step_of_one():
    """FSDP over the units that the policy declares, on two CPU processes."""
    script = Path(__file__).with_name("sharded_step.py")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "sharded step equal" in done.stdout, done.stderr[-3000:]
