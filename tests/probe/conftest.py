"""Datasets in both storages, and untrained checkpoints for them."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "commands"))  # for commands_support, which runs `dap` in process

import configuration_brightness  # noqa: F401 registers the policy whose plan is known
from probe_support import SMALL, TOP, WRIST, make_checkpoint, make_dataset

import lerobot_policy_dap


@pytest.fixture(scope="session")
def in_video(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("probe") / "in_video", video=True)


@pytest.fixture(scope="session")
def in_images(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("probe") / "in_images", video=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, in_images):
    """Makes a checkpoint of a kind for the dataset, once for equal arguments."""
    lerobot_policy_dap.register()
    made = {}

    def make(kind, cameras=None, state=True, root=in_images, **settings):
        # diffusion takes several cameras of one size only, vqbet a single one
        cameras = cameras or ((TOP,) if kind in ("diffusion", "vqbet") else (TOP, WRIST))
        key = (kind, cameras, state, root, *sorted(settings.items()))
        if key not in made:
            made[key] = make_checkpoint(
                tmp_path_factory.mktemp(kind) / "pretrained_model", kind, root, cameras, state, **settings
            )
        return made[key]

    assert set(SMALL) == {"act", "diffusion", "vqbet", "dap"}
    return make
