"""The words of alarms: each event says what happened, to what, what it costs, and the command to run next."""

import shlex
from typing import Any, get_args

import click
import pytest

from harvestd.catalogue.entries import Notification
from harvestd.cli.app import app
from harvestd.cli.flags import Flags
from harvestd.notify.messages import DIGEST, message_of, span, trial
from harvestd.settings.notify import DEFAULT_ALARMS, AlarmName
from harvestd.telemetry.events import Event

NOW = 1_764_612_000.0
RUN = {"host": "gpu-a", "run_id": "run_1", "experiment": "trial_1", "path": "/r", "step": 9, "cents_per_hour": 249}
STOPPED = {**RUN, "seconds": 2520, "cost": 174}
FIELDS: dict[str, dict[str, object]] = {
    "host.drained": {
        "host": "gpu-a",
        "verdict": "safe except",
        "losses": ["records: /r/records"],
        "idle_seconds": 7500,
        "cents_per_hour": 249,
        "cost": 519,
    },
    "host.ending": {"host": "gpu-a", "status": "preempted", "bytes": 3_000_000},
    "host.idle": {"host": "gpu-a", "idle_seconds": 7500, "cents_per_hour": 249, "cost": 519},
    "host.lost_data": {"host": "gpu-a", "files": 2, "bytes": 5 * 1024**3, "what": ["/r/a (1 bytes)"] * 30},
    "host.quarantined": {"host": "gpu-a", "error": "the host key changed", "cents_per_hour": 249},
    "host.unwatched": {"host": "gpu-a", "seconds": 1900, "error": "no route", "cents_per_hour": 249},
    "run.died": STOPPED,
    "run.diverged": STOPPED,
    "run.finished": {**RUN, "steps": 100},
    "run.stalled": STOPPED,
    "disk.low": {"path": "/data", "free_bytes": 1024, "floor_bytes": 5 * 1024**3},
}


def notification(event: str, number: int = 1, **fields: object) -> Notification:
    """Return a notification of an event."""
    return Notification(f"{event}:x:{number}", event, "x", {**FIELDS[event], **fields}, NOW, number)


def test_there_are_words_for_each_alarm_and_each_is_an_event() -> None:
    """The names of the settings are those of the stream."""
    names = set(get_args(AlarmName))
    assert names == set(FIELDS)
    assert names <= {event.value for event in Event}
    assert set(DEFAULT_ALARMS) < names


@pytest.mark.parametrize("event", sorted(FIELDS))
def test_each_says_what_it_is_about_and_what_to_run(event: str) -> None:
    """Where the price is known, it is named; the command is one of ours."""
    message = message_of([notification(event)])
    about = str(FIELDS[event].get("run_id") or FIELDS[event].get("host") or "disk")
    assert about in message.title
    assert message.command.split()[0] == "harvestd"
    name, *arguments = shlex.split(message.command)[1:]
    command = app.get_command(click.Context(app), name)
    assert command is not None
    with command.make_context(name, arguments, obj=Flags()):  # raises a usage error for arguments that it does not take
        pass
    assert message.text.endswith(f"Next: {message.command}")
    if "cents_per_hour" in FIELDS[event]:
        assert "$2.49/h" in message.text
    assert "None" not in message.title + message.text
    document = message.document()
    assert (document["type"], document["timestamp"]) == (event, "2025-12-01T18:00:00Z")
    assert document["data"]["fields"] == FIELDS[event]


@pytest.mark.parametrize("event", sorted(FIELDS))
def test_what_is_unknown_is_left_out(event: str) -> None:
    """No text shows a None."""
    unknown = {"cents_per_hour", "cost", "idle_seconds", "experiment", "step", "steps", "bytes", "error", "seconds"}
    kept = {
        "host.unwatched": {"seconds"},
        "host.lost_data": {"bytes"},
        "host.idle": {"idle_seconds"},
        "host.quarantined": {"error"},
    }.get(event, set())
    left_out: dict[str, Any] = dict.fromkeys((unknown & FIELDS[event].keys()) - kept)
    message = message_of([notification(event, **left_out)])
    assert "None" not in message.title + message.text


def test_what_idling_costs_is_said() -> None:
    """So far, and for each further hour."""
    text = message_of([notification("host.drained")]).text
    assert "idle for 2h05m" in text
    assert "It costs $2.49/h, $5.19 since it is idle." in text
    assert "cents_per_hour" in message_of([notification("host.drained", cents_per_hour=None)]).text


def test_what_a_run_that_stopped_costs_is_said() -> None:
    """Since it stopped."""
    text = message_of([notification("run.stalled")]).text
    assert "since step 9.\nThat was 42m ago.\ngpu-a costs $2.49/h, $1.74 since then." in text


def test_long_lists_are_cut() -> None:
    """And what is left out is counted."""
    text = message_of([notification("host.lost_data")]).text
    assert text.count("/r/a") == 20
    assert "and 10 more" in text
    assert "5.0 GiB" in text


def test_a_digest_counts_and_names_and_holds_each_message() -> None:
    """With the key of each, so that a receiver can ignore what it got before."""
    many = [notification("run.died", number) for number in range(30)] + [notification("disk.low", 31)]
    message = message_of(many)
    assert (message.kind, message.title, message.urgent) == (DIGEST, "harvestd: 31 alarms at once", True)
    assert message.lines[:2] == ("30 x run.died", "1 x disk.low")
    assert message.lines[-1] == "- and 11 more"
    parts = message.document()["data"]["notifications"]
    assert [part["data"]["key"] for part in parts] == [each.key for each in many]
    assert message.key == message_of(many).key
    assert message.key != message_of(many[1:]).key


def test_names_are_quoted_in_commands() -> None:
    """A run may be called anything."""
    message = message_of([notification("run.died", run_id="run 1; rm -rf ~")])
    assert message.command == "harvestd show 'run 1; rm -rf ~'"


def test_a_trial_says_that_it_is_one() -> None:
    """Nobody takes it for an alarm."""
    assert trial(NOW).kind == "test"
    assert "test" in trial(NOW).title
    assert [span(seconds) for seconds in (5, 300, 7500, 100_000)] == ["5s", "5m", "2h05m", "1d03h"]
