"""Several processes: sharded parameters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [("FSDP1", "small"), ("FSDP1", "base"), ("FSDP2", "base")])
def test_sharded_training_in_two_processes_is_training_in_one(kind, size):
    """FSDP over the units that the policy declares, on two CPU processes."""
    script = Path(__file__).with_name("sharded_step.py")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            str(script),
            kind,
            size,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "sharded training equal" in done.stdout, done.stderr[-3000:]
