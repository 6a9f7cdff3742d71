"""What `harvestd events` hears: what is remembered, what comes, and a daemon that starts anew."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from harvestd.cli.commands import events
from harvestd.cli.commands.events import Received, received_events
from harvestd.cli.daemon import Absent
from harvestd.errors import ExitCode, Fatal
from harvestd.store.sockets import short_path
from support.command import harvestd_command

NOW = datetime.now(UTC)
EVER = timedelta(days=1)


def told(number: int, seconds: float) -> Received:
    """Return an event with its number in the daemon's own count, from so many seconds after the test's beginning."""
    at = (NOW + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"id": number, "timestamp": at, "level": "info", "event": "run.discovered"}


class Daemon:
    """A daemon in several lives: what it answers to each question, one after another; None: nobody answers."""

    def __init__(self, *answers: list[Received] | None) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[bool, int | None, dict[str, str]]] = []

    def events(self, *, follow: bool = False, since: int | None = None, **filters: str) -> Iterator[Received]:
        """Answer as `DaemonClient` does."""
        self.asked.append((follow, since, filters))
        answer = self._answers.pop(0)
        if answer is None:
            raise Absent("nobody")
        yield from answer


def numbers(found: Iterator[Received]) -> list[int]:
    """Return the numbers of events."""
    return [event["id"] for event in found]


def test_the_newest_come_first_and_no_more_than_asked_for() -> None:
    """Only the newest of what is remembered, only from the last time, and only what the filters leave."""
    daemon = Daemon([told(i, i - 100) for i in range(5)], [told(i, -10_000 * (5 - i)) for i in range(5)])
    assert numbers(received_events(daemon, 2, EVER, {"host": "gpu-a"}, follow=False)) == [3, 4]
    assert numbers(received_events(daemon, 9, timedelta(seconds=25_000), {}, follow=False)) == [3, 4]
    assert daemon.asked == [(False, None, {"host": "gpu-a"}), (False, None, {})]


def test_a_new_daemon_is_waited_for_and_says_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the stream broke, it is asked again until it answers; what it remembers of before was said already."""
    monkeypatch.setattr(events, "AGAIN", 0.0)
    daemon = Daemon(
        [told(6, 0), told(7, 1)],
        [told(8, 2)],
        None,
        None,
        [told(0, 2), told(1, 3)],
    )
    found = received_events(daemon, 9, EVER, {"level": "info"}, follow=True)
    assert [event["timestamp"] for event in islice(found, 4)] == [told(0, second)["timestamp"] for second in range(4)]
    assert [(follow, since) for follow, since, _ in daemon.asked] == [
        (False, None),
        (True, 7),
        (True, None),
        (True, None),
        (True, None),
    ]
    assert all(filters == {"level": "info"} for *_, filters in daemon.asked)
    assert capsys.readouterr().err.count("no daemon answers") == 1


def test_without_a_daemon_it_says_where_its_log_is(tmp_path: Path) -> None:
    """Exit code 7 and a hint, as a class and as a command."""
    with pytest.raises(Fatal):
        next(received_events(Daemon(None), 1, EVER, {}, follow=True))
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\n')
    done = harvestd_command("events", "-f", "-c", config)
    assert done.code == ExitCode.LOCKED
    assert done.out == ""
    assert "hint: what it told stands in its log: `journalctl -u harvestd`" in done.err


@contextmanager
def answering_with(directory: Path, body: str, times: int) -> Iterator[None]:
    """Answer so many connections at the socket in `directory` with this stream of events, for the body."""
    directory.mkdir(parents=True)
    with short_path(directory / "api.sock") as path, closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            for _ in range(times):
                one, _address = listener.accept()
                with one:
                    if one.recv(65_536):
                        one.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body.encode())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
        thread.join(30)
        assert not thread.is_alive()


def test_a_stream_that_was_cut_is_shown_and_does_not_end_the_command(tmp_path: Path) -> None:
    """The daemon's message that events were forgotten is a line like any other, also without the keys of an event."""
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\n')
    cut = 'event: cut\ndata: {"event":"events.cut","level":"warning"}\n\n'
    later = 'id: 7\ndata: {"timestamp":"2999-01-01T00:00:00.000000Z","level":"info","event":"run.discovered"}\n\n'
    # The first connection of a question only finds out whether somebody listens.
    with answering_with(tmp_path / "data/.harvestd", cut + later, 2):
        done = harvestd_command("events", "-c", config)
    assert (done.code, done.err) == (0, "")
    assert [line.split('"event":"')[1].split('"')[0] for line in done.out.splitlines()] == [
        "events.cut",
        "run.discovered",
    ]
