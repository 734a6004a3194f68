"""A file is whole or not there."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import read_json, replacing_file, replacing_folder, write_json


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "b") as part:
        (part / "x").write_text("x")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(UserError, match=r"a\.json is not readable JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json is missing"):
        read_json(tmp_path / "b.json")


def test_killed_while_writing_a_file_is_old_or_new_and_never_between(tmp_path):
    path = tmp_path / "numbers.json"
    code = (
        "import sys, itertools; from pathlib import Path;"
        "from lerobot_policy_dap.files import write_json\n"
        "for i in itertools.count(): write_json(Path(sys.argv[1]), [i] * 200000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        deadline = time.monotonic() + 120
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(5):
            time.sleep(0.05)
            value = read_json(path)
            assert len(value) == 200000
            assert len(set(value)) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(set(read_json(path))) == 1


def test_a_full_disk_is_one_line_and_keeps_what_was_there(small_disk):
    small = small_disk("256k")
    path = small / "a.json"
    write_json(path, "kept")
    with pytest.raises(UserError, match="no space left on the disk"):
        write_json(path, ["x" * 1000] * 1000)
    assert read_json(path) == "kept"
    assert [p.name for p in small.iterdir()] == ["a.json"]
    with pytest.raises(UserError, match="no space left"), replacing_file(small / "b") as part:
        part.write_bytes(b"x" * 1_000_000)
    with (
        pytest.raises(UserError, match="no space left"),
        replacing_file(small / "c.npy") as part,
        part.open("wb") as f,
    ):
        np.save(f, np.zeros(1_000_000))
