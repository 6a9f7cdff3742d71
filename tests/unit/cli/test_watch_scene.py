"""From the daemon's state document to what the status screen shows."""

from typing import Any

from harvestd.cli.output.page import Styled
from harvestd.cli.output.screen import EventLine, RunLine, TransferLine, scene_of

Document = dict[str, Any]


def state(**others: object) -> Document:
    """Return the document of a daemon without hosts."""
    daemon = {"version": "0", "pid": 4711, "started": 0.0, "paused": False, "stuck": "", "free_bytes": 1}
    counts = {"hosts": 0, "connected": 0}
    return {"at": 1e9, "daemon": daemon, "counts": counts, "hosts": [], "transfers": [], "runs": [], **others}


def host(name: str, **others: object) -> Document:
    """Return a connected host that nobody has judged."""
    known = {
        "state": "connected",
        "error": "",
        "last_success": 5.0,
        "pending_bytes": 7,
        "cents_per_hour": None,
        "ending": False,
    }
    return {"name": name, **known, "verdict": None, **others}


def verdict(answer: str, *, reasons: tuple[str, ...] = (), losses: tuple[str, ...] = ()) -> Document:
    """Return a verdict."""
    return {
        "answer": answer,
        "reasons": [{"kind": "running", "detail": detail} for detail in reasons],
        "losses": [{"kind": kind, "what": "/x", "size_bytes": 1} for kind in losses],
    }


def test_the_head_says_how_the_daemon_is() -> None:
    """Who it is; that it is paused or stuck stands out."""
    document = state(counts={"hosts": 3, "connected": 2})
    assert scene_of(document, ()).head.text == "harvestd: process 4711, 2 of 3 hosts connected"
    document["daemon"]["paused"] = True
    assert "paused" in scene_of(document, ()).head.text
    document["daemon"]["stuck"] = "the watcher of gpu-a"
    assert "STUCK: the watcher of gpu-a" in scene_of(document, ()).head.text


def test_a_host_shows_verdict_and_cost() -> None:
    """The kinds of reasons for a no and of what would be lost, and the price of an hour; trouble stands first."""
    hosts = [
        host("a", verdict=verdict("safe"), cents_per_hour=249),
        host("b", verdict=verdict("safe_except", losses=("records", "uncommitted_work", "records"))),
        host("c", verdict=verdict("not_safe", reasons=("run_x is being written", "and more"))),
        host("d"),
        host("e", state="lost", error="no route"),
        host("f", ending=True),
    ]
    ending, lost, *others = scene_of(state(hosts=hosts), ()).hosts
    assert (ending.name, ending.state.text) == ("f", "ending")
    assert (lost.name, lost.state.text, lost.note) == ("e", "lost", "no route")
    assert [(line.name, line.verdict) for line in others] == [
        ("a", Styled("safe", "green")),
        ("b", Styled("safe except records, uncommitted work", "yellow")),
        ("c", Styled("not safe: running", "red")),
        ("d", ""),
    ]
    assert [line.cost for line in others] == ["$2.49/h", "", "", ""]
    assert (others[0].last_success, others[0].pending) == (5.0, 7)


def test_transfers_runs_and_events_are_taken_over() -> None:
    """Runs that ended long ago are left out, and the newest event stands first with what tells most."""
    transfer = {
        "host": "a", "what": "/m/model", "moved_bytes": 1, "size_bytes": None, "rate": None, "seconds_left": None
    }  # fmt: skip
    run = {
        "name": "r",
        "host": "a",
        "step": 40,
        "total_steps": 1000,
        "seconds_left": 9.0,
        "state": "running",
        "state_since": None,
    }
    died = {**run, "name": "d", "seconds_left": None, "state": "died", "state_since": 1e9 - 60}
    over = [{**run, "state": "finished"}, {**died, "state_since": 1e9 - 1e6}, {**run, "state": "unknown"}]
    first = {"timestamp": "2025-08-20T03:31:43.000001Z", "level": "info", "event": "host.connected", "host": "a"}
    second = {**first, "event": "file.downloaded", "bytes": 3, "path": "w/x/y"}
    found = scene_of(state(transfers=[transfer], runs=[run, died, *over]), (first, second))
    assert found.transfers == (TransferLine("a", "/m/model", 1, None),)
    assert found.runs[0] == RunLine("r", "a", "40/1000", 9.0, Styled("running", ""))
    assert [(line.name, line.state.style) for line in found.runs[1:]] == [("d", "red")]
    assert found.events == (
        EventLine("03:31:43", "info", "file.downloaded", "a x/y"),
        EventLine("03:31:43", "info", "host.connected", "a"),
    )
