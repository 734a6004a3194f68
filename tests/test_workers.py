"""Worker processes end when the process that started them does, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import os, time
from functools import partial
from pathlib import Path
from lerobot_policy_dap.processes import each

def work(folder, item):
    (folder / str(item)).write_text(str(os.getpid()))
    time.sleep(120)

if __name__ == "__main__":
    for _ in each(partial(work, Path({folder!r})), [1, 2], workers=2):
        pass
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_in_the_middle_of_their_work(sign, tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(STARTER.format(folder=str(tmp_path)))
    starter = subprocess.Popen([sys.executable, script], start_new_session=True)
    written = [tmp_path / "1", tmp_path / "2"]
    deadline = time.monotonic() + 240
    while not all(path.exists() and path.read_text() for path in written):
        assert starter.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [int(path.read_text()) for path in written]
    assert all(map(alive, workers))
    os.kill(starter.pid, sign)
    starter.wait()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.1)
