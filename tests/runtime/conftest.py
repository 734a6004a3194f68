"""One small checkpoint of each policy, made once."""

import pytest
from small_policies import save_checkpoint

from lerobot_policy_dap.runtime.model import ModelOptions, ServedModel


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
