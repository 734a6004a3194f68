"""`dap serve` refuses what is unsafe or makes no sense with one line, before it loads anything."""

import contextlib
import io
import sys

import pytest

from lerobot_policy_dap import cli


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
    assert len(err.getvalue().splitlines()) == 1, err.getvalue()
    return err.getvalue()


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
