"""Each view in a real browser: with and without script, in both schemes, narrow and wide, with hostile names."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.browsing import Served, accessibility, overflows, watching

VIEWS = {
    "/": "gpu-b",
    "/events": "Run found",
    "/experiments": "gns_test",
    "/hosts/gpu-a": "gpu-a",
    "/hosts/gpu-b": "gpu-b",
    "/hosts/gpu-c": "gpu-c",
}
"""What each shows."""
pytestmark = pytest.mark.openssh


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_paint_in_both_schemes(browser: Browser, served: Served, scheme: str, pictures: Path | None) -> None:
    """Nothing overflows, no policy is violated, and axe-core finds nothing serious, at 1,440 and 390 px."""
    with watching(browser, served, color_scheme=scheme) as watched:
        for path, text in VIEWS.items():
            page = watched.at(path)
            for width in (1_440, 390):
                page.set_viewport_size({"width": width, "height": 900})
                expect(page.locator("main")).to_contain_text(text)
                assert not overflows(page), f"{path} at {width} px"
                if pictures is not None:
                    name = f"{path.strip('/').replace('/', '-') or 'fleet'}-{scheme}-{width}.png"
                    page.screenshot(path=pictures / name, full_page=True)
            page.set_viewport_size({"width": 1_440, "height": 900})
            assert accessibility(page) == []
            page.close()


def test_views_work_without_script(browser: Browser, served: Served) -> None:
    """The first paint is whole: rows, bars, curves, verdicts, filters and actions, by plain links and forms."""
    with watching(browser, served, java_script_enabled=False) as watched:
        page = watched.at("/")
        row = page.get_by_role("row", name="gpu-a")
        expect(row).to_contain_text("step 12 of 48")
        expect(row).to_contain_text("Not safe")
        assert row.locator("progress").get_attribute("value") == "12"
        expect(row.locator("svg.spark")).to_be_visible()
        page.get_by_role("link", name="gpu-b").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("gpu-b")
        expect(page.get_by_role("region", name="Left out", exact=True)).to_be_visible()
        page.get_by_role("link", name="Events", exact=True).click()
        page.get_by_label("Name").fill("run.*")
        page.get_by_label("Host").select_option("gpu-a")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator(".event-list .name").first).to_have_text("run.discovered")
        assert set(page.locator(".event-list .host").all_inner_texts()) == {"gpu-a"}
        page.get_by_role("button", name="Pause fetching").click()
        expect(page.get_by_role("button", name="Go on fetching")).to_be_visible()
        page.get_by_role("button", name="Go on fetching").click()
        expect(page.get_by_role("button", name="Pause fetching")).to_be_visible()


def test_experiments_are_sorted_and_filtered_by_address(browser: Browser, served: Served) -> None:
    """Each head is a link that sorts; filters narrow the list, and what excludes all is named."""
    with watching(browser, served, java_script_enabled=False) as watched:
        page = watched.at("/experiments")
        names = page.locator(".experiments tbody th b")
        expect(names).to_have_text(["trial", "gns_test"])
        page.get_by_role("link", name="Name", exact=True).click()
        expect(names).to_have_text(["gns_test", "trial"])
        expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
        page.get_by_label("State").select_option("finished")
        page.get_by_role("button", name="Filter").click()
        expect(names).to_have_text(["trial"])
        page.get_by_label("Name").fill("no such name")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_text("Without the name")).to_be_visible()
        page.get_by_role("link", name="Show all 2").click()
        expect(names).to_have_text(["trial", "gns_test"])
        for box in page.get_by_role("checkbox").all():
            box.check()
        page.get_by_role("button", name="Compare", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("2 experiments")


def test_hostile_names_are_text(browser: Browser, served: Served) -> None:
    """Markup, marks of direction and a path of a thousand bytes are shown as text, and run nothing."""
    with watching(browser, served) as watched:
        page = watched.at("/hosts/gpu-b")
        shown = page.locator("main").inner_text()
        assert "<img src=x onerror=alert(1)>" in shown
        assert "\\u202e" in shown
        assert "\u202e" not in page.content()
        assert page.locator("main img, main script").count() == 0


def test_another_sites_name_gets_421(browser: Browser, served: Served) -> None:
    """A name that was pointed at this machine (DNS rebinding) shows no page, and neither does a link from elsewhere."""
    context = browser.new_context()
    page = context.new_page()
    port = served.address.rpartition(":")[2]
    answer = page.goto(f"http://evil.example:{port}/")
    assert answer is not None
    assert answer.status == 421
    context.close()


def test_everything_is_reached_by_keyboard(browser: Browser, served: Served) -> None:
    """The skip link comes first and leads to the content; focus is visible on each stop."""
    with watching(browser, served) as watched:
        page = watched.at("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(4):
            page.keyboard.press("Tab")
            style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style == "solid"


def test_motion_and_forced_colours(browser: Browser, served: Served) -> None:
    """With reduced motion nothing is animated; with forced colours icons and words remain."""
    with watching(browser, served, reduced_motion="reduce", forced_colors="active") as watched:
        page = watched.at("/")
        assert page.evaluate("document.getAnimations().length") == 0
        expect(page.locator(".verdict .word").first).to_be_visible()
        expect(page.locator(".verdict .icon").first).to_be_visible()
