"""Server and client as processes, killed at random moments."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from small_policies import client, eventually, observation, serving

from lerobot_policy_dap.runtime.client import PolicyClient, ServerUnavailable
from lerobot_policy_dap.runtime.player import ChunkPlayer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]

CLIENT = """
import sys
import numpy as np
server, sys.argv = sys.argv[1], ["dap"]  # the package then leaves LeRobot alone, as for our own command
from lerobot_policy_dap.runtime.client import PolicyClient
asking = PolicyClient(server, deadline=60)
shown = asking.get_server_metadata()["observation"].items()
seen = {
    name: np.zeros((f["height"], f["width"], f["channels"]), np.uint8) if f["kind"] == "image" else np.zeros(f["length"])
    for name, f in shown
}
while True:
    asking.infer(seen)
    print("answered", flush=True)
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
        return reply.read().decode()


def started(checkpoint, port):
    """`dap serve` as a process, ready."""
    command = [Path(sys.executable).parent / "dap", "serve", checkpoint, "--port", str(port), "--max-batch", "2"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("ready: ws://127.0.0.1:"), line + process.stderr.read()
    return process


def test_while_a_killed_server_is_away_the_last_safe_command_is_held(checkpoints, model):
    port = free_port()
    server = started(checkpoints("dap"), port)
    asking = PolicyClient("127.0.0.1", port, deadline=1.0)
    player = ChunkPlayer(asking, 0.02)
    kill_after, last_safe = random.Random().uniform(0.2, 1.0), None
    began = time.monotonic()
    try:
        while player.trouble is None:  # until the loss was told
            if time.monotonic() - began > kill_after and server.poll() is None:
                server.kill()
                server.wait()
            command = player.act(observation())
            if not command.held:
                last_safe = command.action
            time.sleep(0.02)
        assert isinstance(player.trouble, ServerUnavailable)
        for _ in range(20):  # the plan is played out, and then the last safe command is held
            command = player.act(observation())
            last_safe = last_safe if command.held else command.action
        assert command.held
        assert (command.action == last_safe).all()
        with pytest.raises(ServerUnavailable, match="no answer within 1 s"):
            player.reset()  # waits for the request under way
            asking.infer(observation())
        with serving(model, port=port):
            player.act(observation())
            assert asking.reconnections == 1
            assert player.trouble is None
            player.close()
            asking.close()
    finally:
        server.kill()
        server.wait()


def test_signals_reload_and_end_it(checkpoints):
    """SIGHUP loads the checkpoint again without a break, SIGTERM drains."""
    port = free_port()
    server = started(checkpoints("dap"), port)
    try:
        with PolicyClient("127.0.0.1", port, deadline=60) as asking:
            asking.infer(observation())
            server.send_signal(signal.SIGHUP)
            eventually(lambda: 'reloads_total{outcome="taken"} 1' in metrics(port), seconds=120)
            asking.infer(observation())
            assert asking.reconnections == 0
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=60)
            assert server.returncode == 0, err
            assert out == "ended\n"
            assert "Traceback" not in err
    finally:
        server.kill()
        server.wait()


def test_killed_clients_leave_the_server_as_it_was(model):
    with serving(model, ping=1.0) as server, client(server) as other:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, f"ws://127.0.0.1:{server.port}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout.readline() == "answered\n"
            time.sleep(random.Random().uniform(0, 0.3))
            process.kill()
            process.wait()
            process.stdout.close()
        other.infer(observation())
        eventually(lambda: server.metrics.value("connections") == 1)
        eventually(lambda: not server._busy)
        assert other.reconnections == 0
