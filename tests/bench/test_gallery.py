"""The gallery page: whole, self-contained, and showing what it names."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerobot_policy_dap.bench.gallery import magnitude, write_gallery
from lerobot_policy_dap.cli.gallery import gallery
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.shifts import SHIFTS
from lerobot_policy_dap.worlds.world import World

_SETTINGS = RenderSettings(48, 48)


class Images(HTMLParser):
    """Texts for those who cannot see, and what is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            image = dict(attrs)
            self.found[str(image["alt"])] = str(image["src"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("gallery") / "deep"
    steps: list[tuple[int, int]] = []
    path = write_gallery(
        out,
        ["drawer-open"],
        0,
        _SETTINGS,
        "corner2",
        "dap gallery --out <here>",
        lambda _, n, of: steps.append((n, of)),
    )
    assert [p.name for p in out.iterdir()] == ["gallery.html"]
    assert steps[0] == (0, len(SHIFTS))
    assert steps[-1] == (len(SHIFTS), len(SHIFTS))
    return path.read_text(encoding="utf-8")


def test_every_factor_is_there_at_every_severity_with_its_unit(page: str) -> None:
    images = Images(page).found
    for name, factor in SHIFTS.items():
        for severity in range(1, 6):
            text = f"drawer-open, {name.replace('_', ' ')} at severity {severity}: {magnitude(factor, severity)}"
            assert (text in images) == (name != "object_size"), text
    assert len(images) == 5 * (len(SHIFTS) - 1) + 1


def test_what_a_task_cannot_show_is_said(page: str) -> None:
    assert "drawer-open-v3 cannot be shifted by object_size" in page
    assert page.count("physical</span>") == 3  # in the table, in the note and over the pictures


def test_a_picture_is_the_frame_that_a_policy_would_see(page: str) -> None:
    shown = Images(page).found["drawer-open, table color at severity 4: 40 ΔE"]
    image = Image.open(io.BytesIO(base64.b64decode(shown.removeprefix("data:image/webp;base64,"))))
    world = World("drawer-open", settings=_SETTINGS, shift="table_color", severity=4)
    world.reset(0)
    assert np.abs(np.asarray(image.convert("RGB"), float) - world.render()).mean() < 6


def test_it_needs_nothing_beside_it(page: str) -> None:
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "url(" not in page
    assert "&lt;here&gt;" in page  # what people typed is text


def test_wrong_names_are_one_line(tmp_path: Path) -> None:
    for task, camera in (("drawer-opne", "corner2"), ("drawer-open", "above")):
        with pytest.raises(UserError):
            write_gallery(tmp_path, [task], 0, _SETTINGS, camera, "", lambda *_: None)
    with pytest.raises(UserError, match="--task"):
        gallery(tmp_path, task=" , ")
    assert not list(tmp_path.iterdir())
