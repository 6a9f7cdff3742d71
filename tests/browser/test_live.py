"""What changes while the page is open: steps, a pause, a host that dies; all tabs of a browser share one stream."""

import re

import pytest
from playwright.sync_api import Browser, Request, expect

from support.browsing import Served, watching

SOON = 15_000.0
"""Milliseconds: a poll of one second and the pause between two changes, on a machine that other tests load."""
pytestmark = pytest.mark.openssh


def test_a_growing_log_moves_the_row(browser: Browser, served: Served) -> None:
    """A step that is logged appears in all tabs of a browser, which has one stream for seven of them."""
    streams: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/changes"):
            streams.append(request.url)

    with watching(browser, served) as watched:
        watched.context.on("request", note)
        tabs = [watched.at("/") for _ in range(7)]
        for tab in tabs:
            expect(tab.get_by_role("row", name="gpu-a")).to_contain_text("of 48")
        served.train()
        for tab in tabs:
            row = tab.get_by_role("row", name="gpu-a")
            expect(row).to_contain_text(f"step {served.step} of 48", timeout=SOON)
        assert len(streams) == 1
        # The tab that has the stream is closed: another one takes over.
        tabs[0].close()
        served.train()
        expect(tabs[6].get_by_role("row", name="gpu-a")).to_contain_text(f"step {served.step} of 48", timeout=SOON)
        assert len(streams) == 2


def test_what_a_person_opened_stays_open(browser: Browser, served: Served) -> None:
    """An event's details stay open while newer events come."""
    with watching(browser, served) as watched:
        page = watched.at("/events")
        event = page.locator(".event-list li", has_text="run.discovered").first
        event.locator("summary").click()
        expect(event.locator("dl")).to_be_visible()
        before = page.locator(".event-list li").first.inner_text()
        served.train()
        expect(page.locator(".event-list li").first).not_to_have_text(before, timeout=SOON)
        expect(event.locator("dl")).to_be_visible()


def test_a_pause_is_shown_at_once(browser: Browser, served: Served) -> None:
    """The button says what a press does next, and the banner says that nothing is fetched."""
    with watching(browser, served) as watched:
        page = watched.at("/")
        page.get_by_role("button", name="Pause fetching").click()
        expect(page.get_by_role("button", name="Go on fetching")).to_be_visible()
        expect(page.locator(".banner")).to_contain_text("is paused")
        page.get_by_role("button", name="Go on fetching").click()
        expect(page.get_by_role("button", name="Pause fetching")).to_be_visible()
        page.goto(served.address + "/hosts/gpu-a")
        judged = page.get_by_text("judged at").inner_text()
        page.get_by_role("button", name="Refresh the verdict").click()
        expect(page.get_by_text("judged at")).not_to_have_text(judged, timeout=SOON)


def test_a_host_that_dies_shows_within_a_poll(browser: Browser, served: Served) -> None:
    """Its row, the banner and the title say so, and a screen reader announces it."""
    with watching(browser, served) as watched:
        page = watched.at("/")
        expect(page.get_by_role("row", name="gpu-c")).not_to_contain_text("lost")
        served.workstation.boxes["gpu-c"].server.kill()
        expect(page.get_by_role("row", name="gpu-c")).to_contain_text("lost", timeout=SOON)
        expect(page.locator(".banner")).to_contain_text("gpu-c can't be reached")
        expect(page).to_have_title("(1) Fleet · harvestd")
        expect(page.locator("#said")).to_contain_text("gpu-c")
        served.workstation.boxes["gpu-c"].server.start()
        page.get_by_role("button", name="Scan now").click()
        expect(page.get_by_role("row", name="gpu-c")).not_to_contain_text("lost", timeout=SOON)


def test_silence_is_shown(browser: Browser, served: Served) -> None:
    """Ten seconds without news are late; twice that, and the daemon does not answer; what was shown stays."""
    with watching(browser, served) as watched:
        page = watched.page()
        page.route("**/changes", lambda _: None)
        page.clock.install()
        page.goto(served.address + "/")
        expect(page.get_by_role("row", name="gpu-a")).to_be_visible()
        page.clock.fast_forward(11_000)
        expect(page.locator("#news-text")).to_have_text(re.compile(r"no news for 1\d s"))
        page.clock.fast_forward(10_000)
        expect(page.locator("#news")).to_have_attribute("data-state", "cut")
        expect(page.locator("#news-text")).to_contain_text("the daemon does not answer")
        expect(page.get_by_role("row", name="gpu-a")).to_be_visible()


def test_a_session_that_ended_leads_to_the_login(browser: Browser, served: Served) -> None:
    """Such as after a restart of the daemon: the page does not go on with what it showed last."""
    with watching(browser, served) as watched:
        page = watched.at("/")
        watched.context.clear_cookies()
        served.train()
        page.wait_for_url(served.address + "/login")
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        watched.complaints[:] = [each for each in watched.complaints if "401" not in each]
