"""The probe's page in a real browser: nothing fetched, nothing broken, and the numbers of probe.json."""

import pytest
from probe_support import TOP

from lerobot_policy_dap.probe import run as running
from lerobot_policy_dap.probe.publish import publish
from lerobot_policy_dap.probe.request import Named, Request
from pages import listen

SECTIONS = ["summary", "heat", "curves", "cells", "dimensions", "shown", "run", "caveats", "methods"]


@pytest.fixture(scope="module")
def probed(checkpoint, in_images, tmp_path_factory):
    """Two policies, one of them without noise, under two factors."""
    out = tmp_path_factory.mktemp("report")
    policies = (
        Named("steady", checkpoint("brightness", gain=30.0)),
        Named("shaky", checkpoint("brightness", gain=30.0, noise=0.5)),
    )
    request = Request(policies, in_images, "local/robot", (0, 1, 2), ("darker", "patches"), (1, 5), frames=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "each", lambda work, items, workers: ((item, work(item)) for item in items))
        measured = running.run(request, out, 1, "cpu", lambda *_: None)
    return out / "report.html", publish(request, measured, out, "dap probe --policy steady=…")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_opens_clean(chromium, probed, width, scheme):
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    foreign, complaints = listen(page)
    page.goto(probed[0].as_uri(), wait_until="load")
    page.get_by_text("wrist", exact=True).last.click()  # unfolds the second camera's frames
    assert complaints == []
    assert foreign == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.eval_on_selector_all("h2", "headings => headings.map(h => h.id)") == SECTIONS
    links = page.eval_on_selector_all("nav a", "links => links.map(a => a.getAttribute('href'))")
    assert links == [f"#{section}" for section in SECTIONS]
    page.close()


@pytest.mark.slow
def test_shows_the_numbers_and_sorts_them(chromium, probed):
    file, results = probed
    page = chromium.new_page()
    page.goto(file.as_uri())
    assert page.locator(".heat").count() == 2
    assert page.locator(".cells tbody tr").count() == len(results["cells"]) == 2 * 2 * 2 * 3
    heading = page.locator(".cells").first.locator("thead th").nth(2)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    shown = page.locator(".cells").first.locator("tbody tr > :nth-child(3)")
    values = [float(value) for value in shown.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]
    assert values == sorted(c["moved"]["estimate"] for c in results["cells"] if c["policy"] == "steady")
    assert page.eval_on_selector_all("img", "images => images.filter(i => !i.naturalWidth || !i.alt).length") == 0
    assert page.locator("img").count() == 2 * (1 + 2 * 2)
    assert page.get_by_text("dap probe --policy steady=…").count() == 1
    page.close()


def test_says_what_is_not_established(probed):
    file, results = probed
    text = file.read_text(encoding="utf-8")
    still = next(
        c for c in results["cells"] if c["policy"] == "steady" and c["camera"] != TOP and c["camera"] != "all"
    )
    assert still["verdict"] == "none"
    assert "does not move at all" in text
    assert "steady gives the same chunk whatever its noise" in text
    assert "it has no spread of its own" in results["summary"][0]
    assert "There are 3 episodes; intervals over so few are rough." in text
