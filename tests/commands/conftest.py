"""One small dataset and one checkpoint, made by the commands themselves."""

import pytest
from commands_support import EPISODES, SIZE, TASK, dap, train_flags


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / TASK
    dap("collect", "--task", TASK, "--episodes", EPISODES, "--image-size", SIZE, "--out", out)
    return out


@pytest.fixture(scope="session")
def frames(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="session")
def trained(dataset, frames, tmp_path_factory):
    """A run of `two_way` by `dap train`."""
    out = tmp_path_factory.mktemp("train") / "two_way"
    dap("train", "--frames-dir", frames, *train_flags(dataset, out, "two_way", save_freq=3))
    return out
