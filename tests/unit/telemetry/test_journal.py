"""Levels in systemd's journal: told to the journal, and to nobody else."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog

from harvestd.telemetry.events import Event
from harvestd.telemetry.log import Format, configure, get_logger


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Undo what `configure` does to the process."""
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


def event_log(file: Path, form: Format, monkeypatch: pytest.MonkeyPatch, journal: str = "") -> list[str]:
    """Return the lines of three events, one with a traceback, written to `file` while `journal` (it) is its own."""
    with file.open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", journal or f"{found.st_dev}:{found.st_ino}")
        configure(form, stream=stream)
        get_logger().info(Event.SERVICE_STARTED)
        get_logger().warning(Event.HOST_LOST)
        try:
            fail("a bug")
        except RuntimeError:
            get_logger().error(Event.LOG_FORWARDED, exc_info=True)
    return file.read_text().splitlines()


def test_the_journal_hears_each_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number before each line is syslog's, and what follows is the JSON that it always was."""
    lines = event_log(tmp_path / "out", "auto", monkeypatch)
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in lines] == ["service.started", "host.lost", "log.forwarded"]


def test_all_lines_of_a_traceback_have_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal reads line by line: readable lines keep their level to the last."""
    lines = event_log(tmp_path / "out", "console", monkeypatch)
    assert len(lines) > 4
    assert [line[:3] for line in lines] == ["<6>", "<4>", *["<3>"] * (len(lines) - 2)]


def test_nobody_else_sees_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was inherited, or that makes no sense, does not mean the journal."""
    for journal in ("1:1", "nonsense", ":"):
        assert all(line.startswith("{") for line in event_log(tmp_path / "out", "json", monkeypatch, journal))
