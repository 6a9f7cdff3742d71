"""Client of the running daemon's socket: its state, its events, and its commands.

Every method raises `Absent` where no daemon answers: the caller then reads the catalogue.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from harvestd.settings import Settings
from harvestd.store.sockets import short_path, socket_path

_PATIENCE: Final = 5.0
_SILENCE: Final = 40.0
"""Seconds without a keep-alive on a stream; the daemon sends one every fifteen."""
_ANSWER: Final = 10.0
"""Seconds for an answer that is no stream; longer than the daemon's event loop is ever blocked."""
_LARGEST: Final = 64 * 1024 * 1024


class Absent(Exception):
    """No daemon answers, or it has just ended."""


class DaemonClient:
    """Client of the daemon that holds the data root of `settings`."""

    def __init__(self, settings: Settings, *, patience: float = _ANSWER) -> None:
        """Store the parameters. `patience`: seconds for each answer that is no stream."""
        self._settings = settings
        self._patience = patience

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
        silence = _SILENCE if follow else self._patience
        with self._connected(silence) as client, client.stream("GET", "/v1/events", params=asked) as answer:
            if answer.status_code != httpx.codes.OK:
                raise Absent(f"the daemon answers {answer.status_code}")
            yield from _events(answer.iter_lines())

    @contextmanager
    def _connected(self, silence: float | None = None) -> Iterator[httpx.Client]:
        try:
            with (
                short_path(socket_path(self._settings)) as path,
                socket.socket(socket.AF_UNIX) as trial,
                httpx.Client(
                    transport=httpx.HTTPTransport(uds=path),
                    base_url="http://harvestd",
                    timeout=httpx.Timeout(_PATIENCE, read=silence or self._patience),
                    trust_env=False,
                ) as client,
            ):
                # httpx leaves its socket open where no process listens.
                trial.settimeout(_PATIENCE)
                trial.connect(path)
                trial.close()
                yield client
        except (OSError, httpx.HTTPError) as error:
            raise Absent(str(error)) from error

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
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
