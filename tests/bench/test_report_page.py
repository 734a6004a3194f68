"""The report in a real browser: nothing fetched, nothing broken, readable at every width."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bench import make_episodes, make_meta, make_strip, make_videos

from lerobot_policy_dap.bench import report
from lerobot_policy_dap.bench.episodes import CLEAN
from lerobot_policy_dap.bench.report import StripImage, VideoClip, write_report
from lerobot_policy_dap.bench.results import summarise
from lerobot_policy_dap.errors import UserError
from pages import listen

SECTIONS = [
    "summary", "map", "curves", "success", "drops", "differences", "shifts", "videos", "training", "caveats", "methods", "run"
]  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    episodes = make_episodes()
    write_report(path, summarise(episodes, make_meta()), make_strip(), make_videos(episodes))
    return path


@pytest.fixture
def page(chromium: Any, page_file: Path) -> Iterator[Any]:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    yield page
    page.close()


def column(page: Any, table: str, index: int) -> list[str]:
    selector = f"{table} tbody tr > :nth-child({index})"
    return page.eval_on_selector_all(
        selector, "cells => cells.map(cell => cell.dataset.value ?? cell.textContent)"
    )


def wait_until(page: Any, condition: str, seconds: float = 30) -> None:
    """As Playwright's `wait_for_function`, which the page's own content policy forbids: it evaluates text there."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never became true: {condition}"
        page.wait_for_timeout(50)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_opens_clean_at_every_width(chromium: Any, page_file: Path, width: int, scheme: str) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    foreign, complaints = listen(page)
    page.goto(page_file.as_uri(), wait_until="load")
    page.get_by_role("button", name="Play all").click()
    page.wait_for_timeout(300)
    assert complaints == []
    assert foreign == []
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page itself must not scroll sideways"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c > 128)")
    assert light == (scheme == "light")
    page.close()


@pytest.mark.slow
def test_anchors_and_names(page: Any) -> None:
    assert page.eval_on_selector_all("h2", "headings => headings.map(h => h.id)") == SECTIONS
    links = page.eval_on_selector_all("nav a", "links => links.map(a => a.getAttribute('href'))")
    assert links == [f"#{section}" for section in SECTIONS]
    ids = page.eval_on_selector_all("[id]", "elements => elements.map(e => e.id)")
    assert len(ids) == len(set(ids))
    unnamed = "elements => elements.filter(e => !e.getAttribute('aria-label')).length"
    assert page.eval_on_selector_all(".scroll, video", unnamed) == 0


@pytest.mark.slow
def test_sorting(page: Any) -> None:
    by_condition = column(page, ".success", 1)
    rates = [float(value) for value in column(page, ".success", 2)]
    heading = page.locator(".success thead th").nth(1)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(page, ".success", 2)] == sorted(rates)
    heading.get_by_role("button").press("Enter")  # the keyboard does it too
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in column(page, ".success", 2)] == sorted(rates, reverse=True)
    page.locator(".success thead th").nth(0).get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert column(page, ".success", 1) == by_condition


@pytest.mark.slow
def test_images_and_videos_decode(page: Any) -> None:
    page.locator("#shifts").scroll_into_view_if_needed()  # images wait until they are near
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
    wait_until(page, "[...document.images].every(image => image.complete)")
    assert page.eval_on_selector_all("img", "images => images.filter(i => !i.naturalWidth || !i.alt).length") == 0
    assert page.locator("img").count() == 1 + 5 * 2
    assert page.locator("video").count() == 2 * 4
    page.get_by_role("button", name="Play all").click()
    wait_until(page, "[...document.querySelectorAll('video')].every(v => v.readyState >= 2 || v.error)")
    assert page.eval_on_selector_all("video", "videos => videos.filter(v => v.error || !v.videoWidth).length") == 0
    wait_until(page, "[...document.querySelectorAll('video')].every(v => v.currentTime > 0)")
    page.get_by_role("button", name="Pause").click()
    assert page.eval_on_selector_all("video", "videos => videos.filter(v => !v.paused && !v.ended).length") == 0
    page.locator("#speed").select_option("2")
    page.get_by_role("button", name="Restart").click()
    wait_until(page, "[...document.querySelectorAll('video')].every(v => v.ended)")
    assert page.get_by_role("button", name="Play all").is_visible()


@pytest.mark.slow
def test_readable_without_script(chromium: Any, page_file: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("video[controls]").count() == 2 * 4
    assert not page.locator("#play").is_visible()
    assert page.locator(".success tbody tr").count() == 12
    context.close()


@pytest.mark.slow
def test_prints_every_table_whole(page: Any) -> None:
    """What scrolls in a box on screen must not be cut on paper."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 less its margins
    cut = """boxes => boxes.filter(box => box.scrollWidth > document.documentElement.clientWidth)
                           .map(box => `${box.ariaLabel}: ${box.scrollWidth}`)"""
    assert page.eval_on_selector_all(".scroll", cut) == []
    assert not page.locator("nav").is_visible()


def test_numbers_and_words_are_on_the_page(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    results = summarise(make_episodes(), make_meta())
    assert page_file.stat().st_size < 8_000_000
    verdicts = [d["verdict"] for d in results["differences"]]
    for sentence in [*results["summary"], *results["caveats"], *(d["words"] for d in results["drops"]), *verdicts]:
        typographic = re.sub(r"(?<![\w.])-(?=\d)", "−", sentence)
        assert typographic.replace("'", "&#39;").replace("<", "&lt;") in text
    for cell in results["cells"]:
        assert f"{cell['successes']}/{cell['n']}" in text
    assert make_meta()["command"] in text
    assert "http" not in re.sub(r"http-equiv", "", text), "no address, not even of a licence or a namespace"


def test_floor_is_marked(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    cells = summarise(make_episodes(), make_meta())["cells"]
    floored = sum(cell["at_floor"] is True for cell in cells)
    assert floored > 0
    assert text.count('class="rate floor"') == floored
    assert text.count("mark hollow") == sum(cell["at_floor"] is True and cell["shift"] != CLEAN for cell in cells)


def test_names_cannot_inject(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>'
    episodes = [
        replace(e, policy=hostile) for e in make_episodes(clean=4, shifted=4, blind=4) if e.policy == "none"
    ]
    meta = make_meta() | {"title": hostile, "command": hostile, "notes": [hostile]}
    image = np.zeros((8, 8, 3), np.uint8)
    clip = VideoClip(hostile, CLEAN, 0, 1, True, np.stack([image] * 3), 5)
    write_report(tmp_path / "r.html", summarise(episodes, meta), [StripImage(hostile, 1, hostile, image)], [clip])
    assert "<script>alert" not in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("shift", [[CLEAN], [CLEAN, "distractors"]])
def test_little_is_enough(tmp_path: Path, shift: list[str]) -> None:
    """One policy, no meta, no pictures: sections without content are left out, with their links."""
    episodes = [e for e in make_episodes() if e.policy == "none" and e.shift in shift]
    write_report(tmp_path / "r.html", summarise(episodes, {}))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'<h2 id="(\w+)"', text))
    assert ids == set(re.findall(r'href="#(\w+)">[A-Z]', text))
    assert "videos" not in ids
    assert ("drops" in ids) == (len(shift) > 1)


def test_a_page_over_its_limit_drops_videos_then_images_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = make_episodes()
    results, videos, strip = summarise(episodes, make_meta()), make_videos(episodes), make_strip()
    path = tmp_path / "r.html"
    write_report(path, results, strip)
    bare = path.stat().st_size

    def written(limit: int) -> str:
        monkeypatch.setattr(report, "PAGE_LIMIT", limit)
        write_report(path, results, strip, videos)
        assert path.stat().st_size <= limit
        return path.read_text(encoding="utf-8")

    text = written(bare + 40_000)
    shown = text.count("<video")
    assert 0 < shown < len(videos) - 1
    assert f"{len(videos) - shown} clips were left out" in text
    for policy in ("none", "two_way"):
        assert f'aria-label="{policy} ' in text, "every policy keeps its first clips"
    text = written(bare - 5_000)
    assert text.count("<video") == 0
    assert text.count("<img") == 0
    assert f"{len(strip)} images were left out" in text
    monkeypatch.setattr(report, "PAGE_LIMIT", 10_000)
    with pytest.raises(UserError, match="tables alone"):
        write_report(path, results)
