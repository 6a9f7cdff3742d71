"""The process that holds the data root: found by its lock; a daemon is queried through its socket.

Every method of `DaemonClient` raises `Absent` where no daemon answers: the caller then reads the catalogue.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from harvestd.cli.errors import print_warning
from harvestd.convention.paths import RESERVED
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal, HarvestError
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind, holder
from harvestd.store.root import DataRoot
from harvestd.store.sockets import short_path, socket_path

if TYPE_CHECKING:
    import httpx

_TIMEOUT: Final = 5.0
_SILENCE: Final = 40.0
"""Seconds without a keep-alive on a stream; the daemon sends one every fifteen."""
_ANSWER: Final = 10.0
"""Seconds for an answer that is no stream; longer than the daemon's event loop is ever blocked."""
_LARGEST: Final = 64 * 1024 * 1024


class Absent(Exception):
    """No daemon answers, or it has just ended."""


class DaemonClient:
    """Client of the daemon that holds the data root of `settings`."""

    def __init__(self, settings: Settings, *, timeout: float = _ANSWER) -> None:
        """Store the parameters. `timeout`: seconds for each answer that is no stream."""
        self._settings = settings
        self._timeout = timeout

    def state(self) -> dict[str, Any]:
        """Return the state document; its keys are described in `api/README.md`."""
        with self._connected() as client, client.stream("GET", "/v1/state") as answer:
            return self._document(answer)

    def command(self, name: str) -> dict[str, Any]:
        """Return the answer to "scan", "pause", "resume" or "reload"."""
        with self._connected() as client, client.stream("POST", f"/v1/{name}") as answer:
            return self._document(answer)

    def events(self, *, follow: bool = False, since: int | None = None, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield the events that the daemon remembers, each with its `id`, and with `follow` later ones.

        `filters` are host=, event= (a glob) and level=. Ends where the daemon ends the stream.
        """
        asked: dict[str, str] = {**filters, "follow": "1" if follow else "0"}
        if since is not None:
            asked["since"] = str(since)
        silence = _SILENCE if follow else self._timeout
        with self._connected(silence) as client, client.stream("GET", "/v1/events", params=asked) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise Absent(f"the daemon answers {answer.status_code}")
            yield from _events(answer.iter_lines())

    @contextmanager
    def _connected(self, silence: float | None = None) -> "Iterator[httpx.Client]":
        import httpx  # noqa: PLC0415  (only beside a daemon)

        try:
            with (
                short_path(socket_path(self._settings)) as path,
                socket.socket(socket.AF_UNIX) as trial,
                httpx.Client(
                    transport=httpx.HTTPTransport(uds=path),
                    base_url="http://harvestd",
                    timeout=httpx.Timeout(_TIMEOUT, read=silence or self._timeout),
                    trust_env=False,
                ) as client,
            ):
                # httpx leaves its socket open where no process listens.
                trial.settimeout(_TIMEOUT)
                trial.connect(path)
                trial.close()
                yield client
        except (OSError, httpx.HTTPError) as error:
            raise Absent(str(error)) from error

    def _document(self, answer: "httpx.Response") -> dict[str, Any]:
        content = bytearray()
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > _LARGEST:
                raise Absent("the daemon's answer has no end")
        try:
            document = json.loads(content)
        except ValueError as error:
            raise Absent("the daemon's answer can't be read") from error
        if answer.is_error or not isinstance(document, dict):
            raise Absent(f"the daemon answers {answer.status_code}")
        return document


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    number: int | None = None
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "id" and value.isdecimal():
            number = int(value)
        elif key == "data":
            event: Mapping[str, Any] = json.loads(value)
            # Messages of the stream itself have no number, and from an older daemon no time.
            yield {"timestamp": _now(), "level": "info", **event, "id": number}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def daemon_pid(settings: Settings) -> int | None:
    """Return the pid of the process that holds the data root, 0 for one that is starting; None: there is none.

    Where that can't be found out, print a warning with the reason, and return None.
    """
    found = holder_of(settings)
    return None if found is None else found.pid


def holder_of(settings: Settings) -> Holder | None:
    """Return the process that holds the data root; None: there is none, or a warning was printed why it is unknown."""
    try:
        return found_holder(settings)
    except HarvestError as error:
        print_warning(f"whether a daemon runs can't be found out: {error}", error.hint)
        return None


def watcher_of(settings: Settings) -> Holder | None:
    """Return the daemon that updates states and verdicts; None: none runs, a command may hold the data root."""
    found = holder_of(settings)
    return found if found is not None and found.kind is HolderKind.DAEMON else None


def daemon_document(found: Holder | None) -> dict[str, object]:
    """Return whether a daemon runs, for a JSON document; `found` as returned by `holder_of`."""
    running = found is not None and found.answers
    return {"running": running, "pid": found.pid or None if found is not None and running else None}


def found_holder(settings: Settings) -> Holder | None:
    """Return the process that holds the data root; raise `HarvestError` where that can't be found out."""
    try:
        if not (settings.data_root / RESERVED).is_dir():
            return None
    except OSError as error:
        raise Fatal(f"{settings.data_root} can't be read: {error.strerror}") from error
    with DataRoot.open(settings.data_root, create=False) as root:
        return holder(root)


_CONDITION_PATIENCE: Final = 5.0
"""Seconds for the daemon's answer, which takes some tenths of a second."""


class Condition(Immutable):
    """The state of the daemon's work, beyond its process being alive; None: not known."""

    answers: bool | None = None
    """None: there is no daemon, or its configuration has no API socket."""
    paused: bool | None = None
    stuck: str | None = None
    """What is past its deadline; empty: nothing."""

    @property
    def trouble(self) -> str:
        """A short text on the problem; empty: there is none."""
        if self.answers is False:
            return "it does not answer: it starts at this moment, or hangs"
        if self.stuck:
            return f"it is stuck: {self.stuck} is past its deadline"
        return "it is paused: nothing is fetched" if self.paused else ""


def condition_of(settings: Settings, daemon: Holder | None) -> Condition:
    """Query the daemon; return within `_TIMEOUT` seconds."""
    if daemon is None or not settings.api.socket:
        return Condition()

    try:
        document = DaemonClient(settings, timeout=_CONDITION_PATIENCE).state()["daemon"]
        return Condition(answers=True, paused=bool(document["paused"]), stuck=str(document["stuck"]))
    except (Absent, KeyError, TypeError):
        return Condition(answers=False)
