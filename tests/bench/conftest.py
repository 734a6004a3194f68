"""One checkpoint, and what one process makes of a small plan: the reference for every other way to run it."""

from pathlib import Path

import pytest
from checkpoints_support import make_checkpoint, small_plan

from lerobot_policy_dap.bench.plan import Policy
from lerobot_policy_dap.bench.run import run
from lerobot_policy_dap.bench.store import Results, open_results


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "dap")


@pytest.fixture(scope="session")
def reference_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "reference"
    assert run(small_plan(Policy("p", checkpoint)), out, 1, lambda done, total: None) == []
    return out


@pytest.fixture(scope="session")
def reference(reference_folder: Path) -> Results:
    return open_results(reference_folder)
