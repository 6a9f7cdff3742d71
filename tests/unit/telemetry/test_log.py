"""Events on their way out: their form, what never gets out, and what happens when they can't get out."""

import ast
import inspect
import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from subprocess import run
from typing import Any, NoReturn

import pytest
import structlog

from harvestd.convention.paths import RemotePath
from harvestd.json_text import json_text
from harvestd.telemetry import events
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import Format, Level, batched_events, configure, get_logger, speak_through_logging

Told = list[dict[str, object]]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Report a terminal."""
        return True


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what `configure` does to the process."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail(message: str) -> NoReturn:
    """Raise what a bug would."""
    raise RuntimeError(message)


def told(report: Callable[[], object], form: Format = "json") -> Told:
    """Return the events that come out of `report`."""
    stream = io.StringIO()
    configure(form, stream=stream)
    report()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_the_common_keys_first() -> None:
    """Time in RFC 3339 and UTC, level and name, then the event's own fields."""
    before = datetime.now(UTC)
    (event,) = told(lambda: get_logger().bind(host="gpu-a").info(Event.HOST_CONNECTED, attempt=1))
    assert list(event) == ["timestamp", "level", "event", "host", "attempt"]
    assert (event["level"], event["event"], event["host"], event["attempt"]) == ("info", "host.connected", "gpu-a", 1)
    stamp = str(event["timestamp"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert before <= datetime.fromisoformat(stamp) <= datetime.now(UTC)


def test_off_a_terminal_events_are_json_and_on_one_they_are_readable() -> None:
    """The stream decides where the format is "auto"; one that is asked for is kept."""
    pipe, terminal, asked = io.StringIO(), Terminal(), Terminal()
    cases: tuple[tuple[io.StringIO, Format], ...] = ((pipe, "auto"), (terminal, "auto"), (asked, "json"))
    for stream, form in cases:
        configure(form, stream=stream)
        get_logger().info(Event.HOST_APPEARED, host="gpu-a")
    assert json.loads(pipe.getvalue())["event"] == "host.appeared"
    assert "host.appeared" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert json.loads(asked.getvalue())["event"] == "host.appeared"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_stay_away_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """NO_COLOR and a dumb terminal are honoured."""
    monkeypatch.setenv(name, value)
    stream = Terminal()
    configure(stream=stream)
    get_logger().warning(Event.DISK_LOW, free_bytes=5)
    assert "\x1b" not in stream.getvalue()
    assert "warning" in stream.getvalue()
    assert "free_bytes=5" in stream.getvalue()


def test_levels_below_the_one_asked_for_are_silent() -> None:
    """Debug is for those who ask."""
    cases: tuple[tuple[Level, int], ...] = (("info", 1), ("debug", 2), ("error", 0))
    for level, expected in cases:
        stream = io.StringIO()
        configure("json", level, stream=stream)
        get_logger().debug(Event.PLAN_WAITING)
        get_logger().info(Event.RUN_DISCOVERED)
        assert len(stream.getvalue().splitlines()) == expected


HOSTILE = "x\n\x1b[2J\u202e\udcff\u2028y\x9b"
ESCAPED = r"x\n\x1b[2J\u202e\udcff\u2028y\x9b"


def hostile_event() -> None:
    """Report an event whose every part came from a box."""
    get_logger().bind(**{f"key {HOSTILE}": "1"}).info(
        HOSTILE, path=RemotePath((HOSTILE,)), deep=[{"a": (HOSTILE,), HOSTILE: {HOSTILE}}], error=OSError(HOSTILE)
    )


def test_bytes_from_a_box_come_out_escaped_in_json() -> None:
    """Not even a reader that decodes the JSON and prints it is in danger."""
    (event,) = told(hostile_event)
    del event["timestamp"], event["level"]
    assert event == {
        "event": ESCAPED,
        f"key {ESCAPED}": "1",
        "path": ESCAPED,
        "deep": [{"a": [ESCAPED], ESCAPED: [ESCAPED]}],
        "error": f"OSError: {ESCAPED}",
    }


def test_bytes_from_a_box_come_out_escaped_on_a_terminal() -> None:
    """The only control characters in the line are our colours and its end."""
    stream = Terminal()
    configure(stream=stream)
    hostile_event()
    line = re.sub(r"\x1b\[[0-9]+m", "", stream.getvalue().removesuffix("\n"))
    assert line.isprintable()
    assert line.count(ESCAPED) == 7


def test_an_exception_is_told_with_its_traceback_line_by_line() -> None:
    """A bug's traceback stays readable, and still can't write to the terminal."""

    def report() -> None:
        try:
            fail(HOSTILE)
        except RuntimeError:
            get_logger().exception(Event.SERVICE_STOPPING)

    (event,) = told(report)
    lines = event["exception"]
    assert isinstance(lines, list)
    assert lines[0] == "Traceback (most recent call last):"
    assert any("RuntimeError: x" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    stream = Terminal()
    configure("console", stream=stream)
    report()
    assert "\n    RuntimeError: x" in stream.getvalue()


def test_what_libraries_say_comes_out_in_the_same_form() -> None:
    """asyncssh, asyncio and the like are heard from warning on, through the same escaping."""

    def report() -> None:
        log = logging.getLogger("asyncssh")
        log.info("not heard")
        log.warning("host said %s", HOSTILE)
        log.log(35, "between two levels")
        log.error("wrong %d", "arguments")
        try:
            fail("x")
        except RuntimeError:
            log.critical("crashed", exc_info=True)

    heard = told(report)
    assert [event["level"] for event in heard] == ["warning", "warning", "error", "critical"]
    assert {event["event"] for event in heard} == {"log.forwarded"}
    assert {event["logger"] for event in heard} == {"asyncssh"}
    assert heard[0]["message"] == f"host said {ESCAPED}"
    assert heard[2]["message"] == "wrong %d"
    assert "RuntimeError: x" in str(heard[3]["exception"])


def test_configuring_again_replaces_what_was_before() -> None:
    """No event comes out twice."""
    first = io.StringIO()
    configure("json", stream=first)
    (event,) = told(lambda: logging.getLogger("x").warning("once"))
    assert event["message"] == "once"
    assert first.getvalue() == ""


class Full(io.StringIO):
    """A stream on a disk that is full until there is `room`."""

    room = False

    def write(self, text: str) -> int:
        """Write if there is room."""
        if not self.room:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stream_that_fails_loses_lines_and_nothing_else(form: Format) -> None:
    """A full disk must not end the room that spoke; afterwards the loss is told once."""
    stream = Full()
    lines = configure(form, stream=stream)
    get_logger().info(Event.DISK_LOW)
    get_logger().info(Event.DISK_LOW)
    assert lines.lost == 2
    stream.room = True
    get_logger().info(Event.DISK_RECOVERED)
    get_logger().info(Event.RUN_DISCOVERED)
    written = stream.getvalue().splitlines()
    assert ["log.lost" in written[0], "disk.recovered" in written[1], "run.discovered" in written[2]] == [True] * 3
    assert re.search(r'lines"?[=:]2', written[0])
    assert len(written) == 3


def test_a_reader_that_pauses_holds_nothing_up() -> None:
    """Lines wait in bounded memory for a reader that has stopped reading; the rest is counted, and all adds up."""
    reading, writing = os.pipe()
    found: list[dict[str, Any]] = []

    def read_on() -> None:
        with os.fdopen(reading, encoding="utf-8") as reader:
            found.extend(json.loads(line) for line in reader)

    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        lines = configure("json", stream=stream)
        reader = threading.Thread(target=read_on, daemon=True)
        with lines.background():
            for n in range(20_000):
                get_logger().info(Event.SERVICE_STARTED, number=n, text="x" * 1000)
            assert lines.lost > 0
            assert lines.size < 5 * 1024 * 1024
            reader.start()
            deadline = time.monotonic() + 30
            while lines.waiting and time.monotonic() < deadline:
                time.sleep(0.01)
            get_logger().info(Event.SERVICE_STOPPED)
    reader.join(30)
    assert found[-1]["event"] == "service.stopped"
    assert sum(each["lines"] for each in found if each["event"] == "log.lost") > 0
    assert sum(each["lines"] if each["event"] == "log.lost" else 1 for each in found) == 20_001


def test_a_process_that_ends_does_not_wait_for_a_reader() -> None:
    """A reader that never reads again costs its last lines, and a second."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w", encoding="utf-8") as stream:
        lines = configure("json", stream=stream)
        began = time.monotonic()
        with lines.background():
            for _ in range(1000):
                get_logger().info(Event.SERVICE_STARTED, text="x" * 1000)
        get_logger().info(Event.SERVICE_STOPPED)
        stream.flush()
        assert time.monotonic() - began < 20


def test_what_waits_is_written_at_the_end() -> None:
    """Nothing is lost of what a reader takes; what is reported after the body is written at once."""
    stream = io.StringIO()
    lines = configure("json", stream=stream)
    with lines.background():
        for n in range(1000):
            get_logger().info(Event.SERVICE_STARTED, number=n)
    get_logger().info(Event.SERVICE_STOPPED)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["number"] for each in found[:-1]] == list(range(1000))
    assert found[-1]["event"] == "service.stopped"


def test_what_is_told_together_is_written_in_one_go() -> None:
    """In its order, with what others say meanwhile, also where the body fails; lost lines are counted one by one."""
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if not written:
                written.append("")
                raise OSError
            written.append(text)
            return len(text)

    configure("json", stream=Stream())
    with batched_events():
        for attempt in range(3):
            get_logger().info(Event.HOST_CONNECTED, attempt=attempt)
    with suppress(RuntimeError), batched_events():
        get_logger().info(Event.HOST_CONNECTED, attempt=3)
        with batched_events():
            get_logger().info(Event.HOST_CONNECTED, attempt=4)
        assert len(written) == 1
        fail("after two events")
    _, text = written
    lost, *events = map(json.loads, text.splitlines())
    assert (lost["event"], lost["lines"]) == ("log.lost", 3)
    assert [event["attempt"] for event in events] == [3, 4]


def test_together_changes_nothing_where_another_program_keeps_the_log() -> None:
    """A library says its events through the program's own logging."""
    speak_through_logging()
    with batched_events():
        get_logger().info(Event.HOST_CONNECTED)


@pytest.mark.parametrize("text", ["plain", "naïve \u2713 \U0001f600", '"\\\x7f/', ""])
def test_json_is_ascii_in_one_line(text: str) -> None:
    """What any reader of JSON makes of it is what was said."""
    event = {"text": text, "list": [1, 2.5, None, True], "size": 2**64}
    line = json_text(event)
    assert json.loads(line) == event
    assert line.isascii()
    assert len(line.splitlines()) == 1


def test_a_closed_stream_is_survived() -> None:
    """The reader may be gone for good."""
    stream = io.StringIO()
    lines = configure("json", stream=stream)
    stream.close()
    get_logger().info(Event.SERVICE_STOPPED)
    assert lines.lost == 1


def test_characters_beyond_the_streams_encoding_are_written_out() -> None:
    """An odd locale loses no line."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    configure("console", stream=stream)
    get_logger().info(Event.RUN_DISCOVERED, path="Größe")
    assert rb"Gr\xf6\xdfe" in raw.getvalue()


def test_in_a_process_of_its_own_every_line_of_output_is_an_event() -> None:
    """Warnings and a library's last words included: that is what a machine reads."""
    code = (
        "import logging, warnings\n"
        "from harvestd.telemetry.events import Event\n"
        "from harvestd.telemetry.log import configure, get_logger\n"
        "configure()\n"
        "get_logger().info(Event.SERVICE_STARTED)\n"
        "warnings.warn('old\\x1b')\n"
        "logging.getLogger('asyncio').error('never retrieved')\n"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in heard] == ["service.started", "log.forwarded", "log.forwarded"]
    assert [event.get("logger") for event in heard] == [None, "py.warnings", "asyncio"]
    assert "\x1b" not in heard[1]["message"]
    assert done.stderr == ""


def test_every_event_is_named_in_one_form_and_says_when_it_is_raised() -> None:
    """Names are dotted lower case, and each member's docstring lists its fields."""
    names = [event.value for event in Event]
    assert len(set(names)) == len(names)
    for event in Event:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", event.value)
        assert event.name == event.value.replace(".", "_").upper()
    (body,) = [node.body for node in ast.parse(inspect.getsource(events)).body if isinstance(node, ast.ClassDef)]
    members = [node for node in body if isinstance(node, ast.Assign)]
    assert len(members) == len(names)
    for member in members:
        described = body[body.index(member) + 1]
        assert isinstance(described, ast.Expr)
        assert isinstance(described.value, ast.Constant)
        assert "Fields:" in str(described.value.value)
