"""One small checkpoint of each policy, made once."""

import pytest
import torch
from small_policies import save_checkpoint

from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """Small models on a busy machine: torch's threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Makes the checkpoint of a policy type, or returns it."""
    made = {}

    def checkpoint(kind):
        if kind not in made:
            made[kind] = save_checkpoint(tmp_path_factory.mktemp("checkpoints") / kind, kind)
        return made[kind]

    return checkpoint


@pytest.fixture(scope="session")
def model(checkpoints):
    """A served `dap`; tests leave it as it is."""
    return ServedModel(checkpoints("dap"), ModelOptions(max_batch=8))
