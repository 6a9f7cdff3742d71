"""Every state of a host, made up: the fleet's template with no, nine and sixty hosts, without a daemon."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from harvestd.page import banner, fleet, words
from harvestd.page.assets import Assets
from harvestd.page.curves import drawn
from harvestd.page.rows import Bar, HostRow, RunLine
from harvestd.page.scores import Score
from harvestd.page.verdicts import AtRisk, Because, Shown
from harvestd.planning.run_status import RunStatus
from harvestd.settings import Settings
from support.browsing import HOSTILE, accessibility, overflows

NOW = time.time()
MIB = 1 << 20
ADDRESS = "http://states.example/"
RESTS = "_2025-08-20_qwen2_5_1_5b_h100_2000steps"
WAVE = [0.02 * ((index * 7919) % 13 - 6) / (1 + index / 20) for index in range(60)]


def row(name: str, **fields: Any) -> HostRow:  # noqa: ANN401  (those of the row)
    """Return a host that trains, apart from `fields`."""
    run = RunLine(
        "gns_test",
        RESTS,
        f"/runs/{name}",
        RunStatus.RUNNING,
        Bar(1_284, 2_000, "step 1,284 of 2,000", "2 h 23 min left"),
    )
    usual: dict[str, Any] = {
        "url": f"/hosts/{name}",
        "state": "connected",
        "icon": "disc",
        "hardware": "H100",
        "deviation": "",
        "error": "",
        "since": NOW - 3_600,
        "run": run,
        "verdict": Shown("unsafe", "Not safe", (Because("2 processes on its GPUs"), Because("a run is being written"))),
        "risk": AtRisk(words.size(41 << 10), "of its log", size=41 << 10),
        "cents_per_hour": 249,
        "loss": drawn(WAVE),
        "score": Score("0.641", "± 0.013", "step 1,200", "▲ 0.024 over 18 Aug"),
    }
    return HostRow(name=name, **{**usual, **fields})


def over(*lines: str, problem: str = "") -> RunLine:
    """Return a run that has ended."""
    return RunLine("lr_sweep", RESTS, "/runs/x", RunStatus.FINISHED, None, lines, problem)


def nine() -> list[HostRow]:
    """Return a host in each state."""
    silent = Bar(97, 256, "step 97 of 256", "silent for 26 min", "still")
    return [
        row("gpu-a"),
        row(
            "gpu-b",
            run=over("idle since 04:36", "finished, 64 steps"),
            verdict=Shown("safe", "Safe", (Because("All of it is here; nothing moves since 04:36"),)),
            risk=AtRisk("nothing", "all is here"),
            idle_since=NOW - 11_520,
            idle_cents=797,
            is_rented=True,
        ),
        row("gpu-c", hardware="8 H100", cents_per_hour=2_392, risk=AtRisk("0 B", "all that it wrote is here")),
        row(
            "gpu-d",
            run=over("idle since 06:55", "finished, 64 steps"),
            verdict=Shown(
                "except",
                "Safe except",
                (Because("checkpoints without an eval", "5.2 GiB"), Because("work in git, not pushed", "48.0 KiB")),
                2,
            ),
            risk=AtRisk("5.2 GiB", "checkpoints, code", size=5_325 * MIB),
            idle_since=NOW - 3_180,
            idle_cents=114,
        ),
        row("gpu-e", run=RunLine("gns", RESTS, "/runs/e", "finished", Bar(411, 844, "step_final 411 of 844 MiB here"))),
        row(
            "gpu-f",
            state="ending",
            icon="hourglass",
            deviation="preempted",
            run=RunLine("gns", RESTS, "/runs/f", "running", Bar(196, 906, "rescued 196 of 906 MiB", "7 min", "bad")),
            risk=AtRisk("710 MiB", "most of step_40", danger=True, size=710 * MIB),
        ),
        row(
            "gpu-g",
            state="lost",
            icon="struck",
            deviation="lost 12 min ago",
            error="No route to host",
            run=RunLine("lr", RESTS, "/runs/g", "running", None, ("last seen at step 22 of 64, 07:36",)),
            verdict=Shown("unknown", "Not known", (Because("It was read last at 07:36"),)),
            risk=AtRisk("12 min", "of its log, at least", danger=True),
        ),
        row(
            "gpu-h",
            state="quarantined",
            icon="octagon",
            deviation="quarantined",
            error=words.told(f"Please login as the user {HOSTILE} " + "x" * 4_096),
            run=None,
            loss=None,
            score=None,
            verdict=Shown("unknown", "Not known", (Because("It was never read"),)),
            risk=AtRisk("not known", "never read"),
        ),
        row("gpu-i", run=RunLine("entropy", RESTS, "/runs/i", RunStatus.STALLED, silent, (), "silent")),
    ]


def sixty() -> list[HostRow]:
    """Return many hosts, of which some deviate."""
    deviating = nine()[1:]
    return [
        row(f"node-{number:02}", loss=None, score=None, hardware="A100")
        if number % 7
        else row(f"node-{number:02}", **_fields(deviating[number // 7 % len(deviating)]))
        for number in range(60)
    ]


def _fields(found: HostRow) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__ if name not in {"name", "url"}}


def document(assets: Assets, rows: Sequence[HostRow]) -> str:
    """Return the fleet as it is sent."""
    needs = banner.needs(rows, 38 << 30, 20 << 30, "/data/downloaded_runs", paused=False)
    lines = [
        fleet.TransferLine(
            "gpu-f", "step_40/model/", "adapter_model.safetensors", 166, 281, "166 of 281 MiB", "1 MiB/s", "2 min"
        ),
        fleet.TransferLine("gpu-e", "step_final/", "optimizer.pt", 412, 564, "412 of 564 MiB", "52 MiB/s", "2 s"),
    ]
    return assets.render(
        "fleet.html",
        {
            "layout": "base.html",
            "section": "fleet",
            "sections": (("fleet", "/", "Fleet"), ("events", "/events", "Events")),
            "back": "/",
            "paused": False,
            "now": NOW,
            "version": "1.4.0",
            "data_root": "/data/downloaded_runs",
            "zone": "UTC",
            "live": False,
            "title": "Fleet",
            "hosts": rows,
            "figures": fleet.figures(rows, ()),
            "needs": needs,
            "needs_shown": banner.SHOWN,
            "groups": fleet.groups(rows),
            "has_curves": any(each.loss for each in rows),
            "has_scores": any(each.score for each in rows),
            "transfers": lines if rows else [],
            "more_transfers": 0,
            "transfer_note": "2 transfers, 267 MiB to go",
            "events": [],
            "free_bytes": 412 << 30,
            "settings": Settings(data_root=Path("/data")),
            "config_name": "/etc/harvestd/harvestd.toml",
        },
    )


def shown(browser: Browser, assets: Assets, text: str, scheme: str) -> Page:
    """Return a tab that shows a document, with the real static files."""

    def answer(route: Route) -> None:
        name = route.request.url.partition(f"{assets.version}/")[2]
        if name:
            file = assets.file(name)
            route.fulfill(body=file.content, content_type=file.media_type)
        else:
            route.fulfill(body=text, content_type="text/html; charset=utf-8")

    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light", java_script_enabled=True)
    page = context.new_page()
    page.route("**/*", answer)
    page.goto(ADDRESS)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("number", [0, 9, 60])
def test_the_fleet_holds_at_each_width(browser: Browser, pictures: Path | None, number: int, scheme: str) -> None:
    """Nothing overflows from 390 to 2,560 px, and axe-core finds nothing serious."""
    assets = Assets()
    rows = {0: [], 9: nine(), 60: sixty()}[number]
    page = shown(browser, assets, document(assets, rows), scheme)
    for width in (1_440, 390, 760, 1_024, 2_560):
        page.set_viewport_size({"width": width, "height": 900})
        assert not overflows(page), f"{number} hosts at {width} px"
        if pictures is not None:
            page.screenshot(path=pictures / f"fleet-of-{number}-{scheme}-{width}.png", full_page=True)
    assert accessibility(page) == []
    for each in rows:
        expect(page.locator("main table").get_by_text(each.name, exact=True).first).to_be_visible()
    page.context.close()
