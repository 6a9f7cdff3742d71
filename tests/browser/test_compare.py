"""Experiments beside each other: results, curves with letters, and what differs in their configurations."""

import pytest
from playwright.sync_api import Browser, expect

from support.browsing import QUIET, TRAINING, Served, accessibility, overflows, watching

pytestmark = pytest.mark.openssh


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_experiments_are_compared(browser: Browser, served: Served, scheme: str, width: int) -> None:
    """Each has a letter and a dash of its own, whole without script; the page holds and is accessible."""
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with watching(browser, served, **options) as watched:
        page = watched.at(f"/compare?id={TRAINING.name}&id={QUIET.name}")
        expect(page.locator("h1")).to_have_text("2 experiments")
        expect(page.locator(".heads li, .compared tbody tr")).to_have_count(2)
        reward = page.get_by_role("img", name="Reward: A")
        assert [path.get_attribute("class") for path in reward.locator(".drawn path").all()] == ["s1 d0", "s2 d1"]
        assert reward.locator(".letters text").all_text_contents() == ["A", "B"]
        dashes = reward.locator(".drawn path").evaluate_all(
            "all => all.map((each) => getComputedStyle(each).strokeDasharray)"
        )
        assert len(set(dashes)) == 2
        differing = page.get_by_role("table", name="Keys whose values differ")
        expect(differing.get_by_role("row", name="total_steps")).to_contain_text(str(QUIET.total_steps))
        assert not overflows(page)
        assert accessibility(page) == []


@pytest.mark.parametrize("query", ["", "?id=nothing", f"?id={TRAINING.name}", f"?id={TRAINING.name}&id=nothing"])
def test_what_can_t_be_compared_is_said(browser: Browser, served: Served, query: str) -> None:
    """An unknown name, or one alone, is a page that says so, with 404."""
    with watching(browser, served) as watched:
        answer = watched.context.request.get(
            f"{served.address}/compare{query}", headers={"sec-fetch-site": "same-origin"}
        )
        assert answer.status == 404
