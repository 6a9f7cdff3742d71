"""The view of one run: whole without script, alive with it, by keyboard as by mouse, at every width."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browsing import QUIET, TRAINING, Served, Watched, accessibility, overflows, wait, watching

SOON = 2.0
"""Seconds from a line on the host until its curve has it: the best of `_TRIES`, since other tests load the machine."""
_TRIES = 5
pytestmark = pytest.mark.openssh


def path_of(watched: Watched, name: str = TRAINING.name) -> str:
    """Return the path of a run's view."""
    answer = watched.context.request.get(f"{watched.served.address}/v1/runs", headers={"sec-fetch-site": "same-origin"})
    return next(f"/runs/{run['id']}" for run in answer.json()["runs"] if run["name"] == name)


def newest(page: Page) -> int:
    """Return the newest step that the curves have."""
    return int(page.locator("circle[data-newest]").get_attribute("data-step") or 0)


def test_the_first_paint_is_whole_without_script(browser: Browser, served: Served) -> None:
    """Curves are lines of an SVG, with values, axis and tables; a NaN is a gap."""
    with watching(browser, served, java_script_enabled=False) as watched:
        page = watched.at(path_of(watched))
        expect(page.locator("h1")).to_have_text(TRAINING.name)
        loss = page.locator('.strip[data-key="loss"]')
        assert (loss.locator("path.line").get_attribute("d") or "").startswith("M")
        assert "step 1 to" in (loss.locator(".plot").get_attribute("aria-label") or "")
        expect(page.locator("#axis text").last).to_have_text(str(TRAINING.total_steps))
        expect(page.get_by_role("table", name="Files of the run")).to_contain_text("train_log.jsonl")
        expect(page.get_by_role("region", name="Configuration")).to_contain_text(TRAINING.backbone)
        expect(page.locator("#controls")).to_be_hidden()
        page.locator("details.more-strips summary").click()
        broken = page.locator('.strip[data-key="logr_std"] path.line').get_attribute("d") or ""
        assert broken.count("M") == 2


def test_nothing_jumps_when_script_takes_over(browser: Browser, served: Served) -> None:
    """The script's scales, values and places are those of the first paint."""
    measure = """() => [...document.querySelectorAll('.content > #curves > .strips > .strip')].map((strip) => [
        strip.dataset.key, strip.querySelector('.value').textContent,
        ...[...strip.querySelectorAll('.gutter text')].map((text) => text.textContent),
        strip.querySelector('.plot').clientWidth, strip.querySelector('.plot').clientHeight])"""
    with watching(browser, served, java_script_enabled=False) as watched:
        before = watched.at(path_of(watched)).evaluate(measure)
    with watching(browser, served) as watched:
        page = watched.at(path_of(watched))
        expect(page.locator('.strip[data-key="loss"] canvas')).to_be_visible()
        assert page.evaluate(measure) == before


def test_a_growing_log_moves_the_curve(browser: Browser, served: Served) -> None:
    """A line that is appended on the host is in the plot within two seconds, without a request for the whole."""
    with watching(browser, served) as watched:
        page = watched.at(path_of(watched))
        expect(page.locator('.strip[data-key="loss"] canvas')).to_be_visible()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        took = []
        for _ in range(_TRIES):
            served.train()
            began = time.monotonic()
            wait(lambda: newest(page) == served.step)
            took.append(time.monotonic() - began)
        assert min(took) < SOON, took
        asked = [url for url in requests if "/series?" in url]
        assert asked
        assert all("from=" in url for url in asked)
        # What the server drew meanwhile has not replaced what the script draws.
        expect(page.locator('.strip[data-key="loss"] canvas')).to_have_count(1)


def test_the_cursor_goes_through_all_plots(browser: Browser, served: Served) -> None:
    """Arrows move it, Home and End jump, plus zooms, Escape resets; a mouse does the same."""
    with watching(browser, served) as watched:
        page = watched.at(path_of(watched))
        expect(page.locator('.strip[data-key="loss"] canvas')).to_be_visible()
        plot, reading = page.locator('.strip[data-key="kl"] .plot'), page.locator("#reading")
        plot.focus()
        page.keyboard.press("Home")
        expect(reading).to_contain_text("step 1")
        first = page.locator('.strip[data-key="loss"] .value').inner_text()
        page.keyboard.press("ArrowRight")
        expect(reading).to_contain_text("step 2")
        expect(page.locator('.strip[data-key="loss"] .value')).not_to_have_text(first)
        end = page.locator("#axis text").last.text_content() or ""
        page.keyboard.press("+")
        expect(page.locator("#axis text").last).not_to_have_text(end)
        page.keyboard.press("Escape")
        expect(page.locator("#axis text").last).to_have_text(end)
        expect(reading).to_have_text("")
        box = plot.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 3, box["y"] + 20)
        page.mouse.move(box["x"] + box["width"] / 8, box["y"] + 20)
        expect(reading).to_contain_text("step 6")
        expect(page.locator(".over .cursor")).to_have_count(1)


def test_the_axis_is_chosen(browser: Browser, served: Served) -> None:
    """The whole run or so far, steps or times, and a logarithmic scale; the lane and the strips follow."""
    with watching(browser, served) as watched:
        page = watched.at(path_of(watched))
        expect(page.locator('.strip[data-key="loss"] canvas')).to_be_visible()
        page.get_by_role("button", name="So far").click()
        expect(page.locator("#axis text").last).to_have_text(str(served.step))
        page.get_by_role("button", name="Whole run").click()
        expect(page.locator("#axis text").last).to_have_text(str(TRAINING.total_steps))
        page.get_by_label("Log scale").check()
        labels = page.locator('.strip[data-key="entropy"] .gutter text')
        assert all(float(each) > 0 for each in labels.all_text_contents())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_holds_at_every_width_and_is_accessible(
    browser: Browser, served: Served, scheme: str, width: int, pictures: Path | None
) -> None:
    """Nothing scrolls sideways, and axe finds nothing serious, with both runs and with reduced motion."""
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
    with watching(browser, served, **options) as watched:
        for name in (TRAINING.name, QUIET.name):
            page = watched.at(path_of(watched, name))
            expect(page.locator('.strip[data-key="loss"] canvas')).to_be_visible()
            assert not overflows(page)
            assert accessibility(page) == []
            if pictures is not None:
                page.screenshot(path=pictures / f"run-{name}-{scheme}-{width}.png", full_page=True)
            page.close()
