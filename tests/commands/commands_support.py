"""How the tests run commands, and with which small sizes."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from lerobot_policy_dap import cli

BIN = Path(sys.executable).parent
TWO = ("torchrun", "--standalone", "--nproc_per_node=2")
"""Two processes of a CPU. `accelerate launch --cpu --num_processes=2` starts one."""
TASK, SIZE, EPISODES = "drawer-open", 48, 3


def environment():
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "WANDB_MODE": "disabled",
    }


def run(*command, check=True, timeout=600):
    """Runs an installed command; `check` shows its output when it fails."""
    done = subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


def killed(command, ready, wait, sign=signal.SIGKILL, output=subprocess.DEVNULL):
    """Starts the command and kills it, and nothing it started, `wait` seconds after `ready()` first holds.

    Returns whether it was killed: a quick machine may have finished by then, well.
    """
    process = subprocess.Popen(
        [str(BIN / command[0]), *map(str, command[1:])],
        env=environment(),
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline, "the command never came so far"
        time.sleep(0.02)
    try:
        process.wait(timeout=wait)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, sign)
        process.wait()
        time.sleep(1.5)  # its processes notice within half a second
        return True
    assert process.returncode == 0
    return False


def train_flags(dataset, out, coupling, steps=6, **more):
    flags = {
        "dataset.repo_id": "local/drawer",
        "dataset.root": dataset,
        "policy.type": "dap",
        "policy.coupling": coupling,
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.image_size": SIZE,
        "policy.encoder_width": 8,
        "policy.latent_dim": 8,
        "policy.hidden_dim": 16,
        "policy.depth": 1,
        "output_dir": out,
        "batch_size": 8,
        "steps": steps,
        "num_workers": 0,
        "log_freq": 1,
        **more,
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def dap(*arguments, check=True):
    """The `dap` command in this process, which has the slow imports behind it."""
    out, err, status, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["dap", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as leaving:
        status = leaving.code or 0
    finally:
        sys.argv = argv
    if check and status != 0:
        raise AssertionError(f"dap {' '.join(map(str, arguments))}\n{out.getvalue()}\n{err.getvalue()}")
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def refused(*arguments):
    """The one line with which the command fails."""
    done = dap(*arguments, check=False)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]
