"""The report of a whole grid in a real browser: the map, the task switch, links, small screens and paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_bench import GRID_TASKS, make_grid, make_grid_meta, make_grid_strip, make_grid_videos
from test_report_page import column, wait_until

from lerobot_policy_dap.bench.films import BESIDE, FAILS, FIRST, choose_films
from lerobot_policy_dap.bench.layout import Anchors
from lerobot_policy_dap.bench.report import write_report
from lerobot_policy_dap.bench.results import summarise
from pages import listen

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "report.html"
    episodes = make_grid(
        episodes=10, clean=12, training_seeds=2, severities=(1, 5), policies=("act", "dap_two_way", "expert")
    )
    write_report(
        path,
        summarise(episodes, make_grid_meta()),
        make_grid_strip((1, 5)),
        make_grid_videos(episodes, ("distractors",)),
    )
    return path


@pytest.fixture
def page(chromium: Any, page_file: Path) -> Iterator[Any]:
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(page_file.as_uri())
    yield page
    page.close()


def shown(page: Any, selector: str) -> int:
    return int(page.eval_on_selector_all(selector, "parts => parts.filter(p => p.getClientRects().length).length"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_opens_without_a_request_or_a_complaint(chromium: Any, page_file: Path, width: int, scheme: str) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
    foreign, complaints = listen(page)
    page.goto(page_file.as_uri())
    for task in page.locator("#task option").all():
        page.locator("#task").select_option(task.get_attribute("value"))
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, "the page itself must not scroll sideways"
    assert complaints == []
    assert foreign == []
    page.close()


def test_the_task_switch_shows_one_task_or_all(page: Any) -> None:
    assert [option.inner_text() for option in page.locator("#task option").all()] == [
        "All tasks",
        *sorted(GRID_TASKS),
    ]
    assert shown(page, ".heat") == shown(page, "table.success") == 1
    everything = shown(page, ".differences tbody tr")
    page.locator("#task").select_option(label="pick-place-v3")
    assert shown(page, ".heat") == shown(page, "table.success") == 1
    assert page.locator(".heat caption:visible").inner_text() == "pick-place-v3"
    assert shown(page, ".differences tbody tr") == everything / len(GRID_TASKS)
    assert shown(page, ".clips") < page.locator(".clips").count()


def test_the_map_sorts_within_its_parts_by_what_it_shows(page: Any) -> None:
    heat = ".heat >> nth=0"
    assert page.locator(".heat .area:visible").count() > 0
    assert page.locator(".heat .drop:visible").count() == 0
    page.get_by_role("radio", name="loss from clean").check()
    assert page.locator(".heat .area:visible").count() == 0
    heading = page.locator(heat).locator("thead th").nth(1)
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    bodies = page.locator(heat).evaluate(
        "t => [...t.tBodies].map(b => [...b.rows].map(r => r.cells[1]?.dataset.drop ?? r.cells[0].textContent.trim()))"
    )
    factors = [float(value) for value in bodies[1]]
    assert len(factors) == 12
    assert factors == sorted(factors)
    assert bodies[0][0] == "clean success", "the control stays on top"
    assert bodies[2][0].startswith("Physical"), "and what changes the task stays apart"
    assert len(bodies[3]) == 1


def test_every_number_is_a_link_to_itself_and_a_link_shows_its_task(page: Any, page_file: Path) -> None:
    ids = page.eval_on_selector_all("[id]", "elements => elements.map(e => e.id)")
    assert len(ids) == len(set(ids))
    targets = page.eval_on_selector_all("a[href^='#']", "links => links.map(a => a.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)
    for section in ("map", "success", "drops", "differences", "shifts", "videos"):
        assert page.locator(f"section[aria-labelledby={section}] a[href^='#']").count() > 1
    link = "map.drawer-open-v3.distractors.act"
    page.goto(f"{page_file.as_uri()}#{link}")
    page.reload()
    cell = page.locator(f"[id='{link}']")
    assert cell.is_visible()
    assert page.locator("#task").evaluate("s => s.selectedOptions[0].text") == "drawer-open-v3"
    marked = "e => getComputedStyle(e).outlineStyle"
    assert cell.evaluate(marked) == "solid"
    other = page.locator("table.success a:visible").first
    other.click()
    assert page.evaluate("location.hash.slice(1)") == other.locator("xpath=ancestor::td").get_attribute("id")


def test_a_row_of_videos_plays_together(page: Any) -> None:
    row = page.locator(".clips").first
    row.locator("video").first.press("Enter")
    wait_until(
        page, "[...document.querySelector('.clips').querySelectorAll('video')].every(v => v.currentTime > 0)"
    )
    others = "[...document.querySelectorAll('.clips')].slice(1).flatMap(c => [...c.querySelectorAll('video')])"
    assert page.evaluate(f"{others}.every(v => v.paused)")


def test_tables_sort_by_number(page: Any) -> None:
    table = "section[aria-labelledby=drops] table >> nth=0"
    page.locator(table).get_by_role("button", name=re.compile("^Loss")).click()
    rows = page.locator(table).evaluate("t => [...t.tBodies[0].rows].map(r => Number(r.cells[2].dataset.value))")
    assert rows == sorted(rows)
    assert len(column(page, ".heat", 1)) > 0


def test_the_chosen_task_prints_whole(page: Any) -> None:
    page.locator("#task").select_option(label="drawer-open-v3")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 less its margins
    cut = """boxes => boxes.filter(box => box.getClientRects().length && box.scrollWidth > document.documentElement.clientWidth)
                           .map(box => `${box.ariaLabel}: ${box.scrollWidth}`)"""
    assert page.eval_on_selector_all(".scroll", cut) == []
    assert shown(page, ".heat") == 1
    assert shown(page, ".heat .area") > 0
    assert shown(page, ".heat .drop") > 0, "there is no switch on paper: both are there"
    assert not page.locator(".bar").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_films_are_chosen_by_rule() -> None:
    episodes = make_grid(episodes=20, clean=20, training_seeds=2, severities=(1, 5), policies=("act",))
    success = {(e.task, e.training_seed, e.shift, e.severity, e.seed): e.success for e in episodes}
    chosen = choose_films(episodes)
    assert {one.film.training_seed for one in chosen} == {0}
    keys = [(one.film.task, one.film.shift, one.film.severity, one.film.seed) for one in chosen]
    assert len(keys) == len(set(keys)), "no film twice"
    for task in GRID_TASKS:
        of_task = [one for one in chosen if one.film.task == task]
        assert (of_task[0].film.shift, of_task[0].film.seed, of_task[0].why) == ("none", 10_000, FIRST)
        for shift in {e.shift for e in episodes} - {"none", "blind"}:
            [one] = [c for c in of_task if c.film.shift == shift]
            assert one.film.severity == 5
            failing = [
                seed for seed in range(10_000, 10_020)
                if success[task, 0, "none", 0, seed] and not success[task, 0, shift, 5, seed]
            ]  # fmt: skip
            assert (one.film.seed, one.why) == ((failing[0], FAILS) if failing else (10_000, FIRST))
            assert any(c.film.shift == "none" and c.film.seed == one.film.seed for c in of_task), "clean beside it"
        assert {c.why for c in of_task if c.film.shift == "none"} <= {FIRST, BESIDE}


def test_anchors_never_collide() -> None:
    anchor = Anchors()
    names = [anchor("a b"), anchor("a-b"), anchor("a", "b"), anchor("a.b"), anchor(""), anchor('"><script>')]
    assert len(set(names)) == len(names)
    assert anchor("a b") == names[0]
    assert all(not set(name) & set(' "<>#') for name in names)
