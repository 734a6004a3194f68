"""Shapes in `flow` and `nets` are checked while the tests run; nothing is fetched from a hub."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run in as many processes as there are cores

from jaxtyping import install_import_hook

# Before anything imports the package.
install_import_hook(["lerobot_policy_dap.flow", "lerobot_policy_dap.nets"], "beartype.beartype")

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without rendering nothing here can be trusted: say so once, and what to install."""
    if hasattr(session.config, "workerinput"):
        return
    from lerobot_policy_dap.errors import UserError
    from lerobot_policy_dap.worlds.rendering import require_backend

    try:
        require_backend()
    except UserError as error:
        pytest.exit(f"error: {error}", returncode=2)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the report must be tested in a browser: apt-get install chromium", pytrace=False)
        pytest.skip("no Chromium; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of the given size, such as "1m", and returns its folder."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("cannot mount a small disk here: it needs root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)
