"""`dap serve` refuses what is unsafe or makes no sense with one line, before it loads anything."""

import contextlib
import io
import sys

import pytest

from lerobot_policy_dap import cli
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.runtime import service


def refused(*arguments):
    """The one line with which the command fails."""
    err, argv = io.StringIO(), sys.argv
    sys.argv = ["dap", "serve", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as leaving:
            cli.main()
    finally:
        sys.argv = argv
    assert leaving.value.code == 2
    errors = [line for line in err.getvalue().splitlines() if " INFO " not in line]  # what a loaded model logs
    assert len(errors) == 1, err.getvalue()
    return errors[0]


def test_what_would_be_open_to_strangers(tmp_path, monkeypatch):
    assert "give an API key with --api-key-env or --api-key-file" in refused(tmp_path, "--host", "0.0.0.0")
    monkeypatch.setenv("SHORT", "abc")
    assert "at least 16" in refused(tmp_path, "--host", "0.0.0.0", "--api-key-env", "SHORT")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert "no such environment variable" in refused(tmp_path, "--api-key-env", "NOWHERE")
    assert "cannot be read" in refused(tmp_path, "--api-key-file", tmp_path / "none")
    assert "not both" in refused(tmp_path, "--api-key-file", tmp_path / "none", "--api-key-env", "SHORT")


def test_options_out_of_bounds(tmp_path, checkpoints):
    assert "--deadline is 0.0" in refused(tmp_path, "--deadline", 0)
    assert "--margin is -1.0" in refused(tmp_path, "--margin", -1)
    assert "--max-change is nan" in refused(tmp_path, "--max-change", "nan")
    assert "CLIENT=CHECKPOINT" in refused(tmp_path, "--rename", "front")
    assert "is no checkpoint" in refused(tmp_path)
    assert "has no camera" in refused(checkpoints("dap"), "--rename", "x=camera")


def test_what_only_a_calibrated_monitor_can_do(checkpoints, monkeypatch):
    """An uncalibrated `dap` is watched too, but never raises an alarm."""

    def serve_checkpoint(*_):
        raise UserError("it serves")

    monkeypatch.setattr(service, "serve_checkpoint", serve_checkpoint)
    for on_alarm in ("stop", "hold", "slow"):
        assert "has no monitor; `dap calibrate`" in refused(checkpoints("dap"), "--on-alarm", on_alarm)
    assert "it serves" in refused(checkpoints("dap"))
