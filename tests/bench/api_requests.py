"""Requests to the API of a daemon, one after the other in a thread, and how long each answer took."""

import socket
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.timing import Unmeasurable
from harvestd.store.sockets import short_path

_DEADLINE = 60.0
"""Seconds for an answer."""


@dataclass(slots=True)
class Requests(AbstractContextManager["Requests"]):
    """Requests `target` from a Unix socket again and again, for as long as the context lasts."""

    path: Path
    """Of the socket."""
    target: str
    pause: float
    """Seconds between an answer and the next request."""
    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""
    _failure: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def answered(self) -> list[float]:
        """Return how long each answer took; raise `Unmeasurable` where one failed, or where there is none."""
        if self._failure or not self.seconds:
            raise Unmeasurable(f"{self.target} was not answered: {self._failure or 'too little time'}")
        return list(self.seconds)

    def wait_for_failure(self, timeout: float) -> bool:
        """Return whether a request failed within `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
        return bool(self._failure)

    def _ask(self) -> None:
        try:
            with short_path(self.path) as path:
                while not self._over.wait(self.pause):
                    started = time.monotonic()
                    self._answer(path)
                    self.seconds.append(time.monotonic() - started)
        except OSError as e:
            self._failure = str(e)

    def _answer(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_DEADLINE)
            client.connect(path)
            client.sendall(f"GET {self.target} HTTP/1.1\r\nHost: harvestd\r\nConnection: close\r\n\r\n".encode())
            answer = client.recv(65_536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise OSError(answer[:100].decode(errors="replace") or "the connection was closed")
            while client.recv(65_536):
                pass


def held(seconds: list[float], usual: float) -> float:
    """Return for how many seconds in all answers took longer than `usual` seconds each: the event loop was held."""
    return sum(max(0.0, each - usual) for each in seconds)
