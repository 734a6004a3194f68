"""Shapes in `flow` and `nets` are checked while the tests run; nothing is fetched from a hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from jaxtyping import install_import_hook

# Before anything imports the package.
install_import_hook(["lerobot_policy_dap.flow", "lerobot_policy_dap.nets"], "beartype.beartype")
