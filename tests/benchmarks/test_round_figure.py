"""A round's figure, in a browser."""

import pytest
from round_figure import Row, draw

from lerobot_policy_dap.bench.statistics import Interval

HALF = Interval(0.5, 0.4, 0.6)


@pytest.mark.parametrize("name", ["none", "two_way_strong_long", "feedback_off_strong_long"])
def test_the_names_of_arms_stand_inside(chromium, name):
    page = chromium.new_page()
    page.set_content(draw([Row("none", HALF, HALF, None), Row(name, HALF, None, HALF)], name, ["About it."]))
    inside = """() => {
        const paper = document.querySelector("svg").getBoundingClientRect();
        return [...document.querySelectorAll("text")].every(text => {
            const box = text.getBoundingClientRect();
            return box.left >= paper.left && box.right <= paper.right && box.bottom <= paper.bottom;
        });
    }"""
    assert page.locator("text.name").count() == 2
    assert page.evaluate(inside)
    page.close()
