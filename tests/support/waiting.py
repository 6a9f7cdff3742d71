"""Waiting for what the daemon does beside a test, without sleeping, and watching a file grow meanwhile."""

import asyncio
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio

DEADLINE = 60.0
"""Seconds after which a condition that a test waits for will not come any more."""
_PAUSE = 0.01
"""Seconds between two looks at a condition."""
_REST = 9
"""The same, in durations of the last look: the daemon, often in the same process, needs the time that looks take."""
_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_INNER = ("cr_await", "ag_await", "gi_yieldfrom")
"""Attributes of suspended coroutines and generators: their frame, and what they wait for."""
_A_WRITE = 1.0
"""Seconds that a line may look torn to one who reads while it is written."""

EventLog = list[MutableMapping[str, Any]]
"""Events with their fields, in their order."""


def events(event_log: EventLog, event: str, **fields: object) -> EventLog:
    """Return the events of one name, as an operator sees them, whose fields have these values, compared as text."""
    return [
        one
        for one in event_log
        if (one["event"], one["log_level"] == "debug") == (event, False)
        and all(str(one.get(key)) == str(value) for key, value in fields.items())
    ]


async def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Return when `condition` holds; fails after `seconds`."""
    try:
        with anyio.fail_after(seconds):
            while True:
                began = time.monotonic()
                if condition():
                    return
                await anyio.sleep(max(_PAUSE, _REST * (time.monotonic() - began)))
    except TimeoutError:
        sys.stderr.write(_waiting_tasks())
        raise AssertionError(f"did not come true within {seconds:g} s") from None


def _waiting_tasks() -> str:
    """Return where each task of the event loop waits, from the outermost call inwards."""
    lines = []
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name()):
        lines.append(f"{task.get_name()}:")
        at: Any = task.get_coro()
        while at is not None:
            frame = next((each for name in _FRAMES if (each := getattr(at, name, None)) is not None), None)
            if frame is None:
                break
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            at = next((each for name in _INNER if (each := getattr(at, name, None)) is not None), None)
    return "\n".join([*lines, ""])


def holds(path: Path, content: bytes) -> Callable[[], bool]:
    """Return the condition that a file is there with this content."""
    return lambda: path.is_file() and path.read_bytes() == content


class Growth:
    """Watches a growing file at home beside its source; `faults` must be empty in the end."""

    def __init__(self, source: Path, here: Path, whole: Callable[[bytes], int]) -> None:
        """`whole` gives how many bytes of what is here are whole lines or records."""
        self._source = source
        self._here = here
        self._whole = whole
        self.sizes: list[int] = []
        """Every size that was seen, in order."""
        self.inodes: set[int] = set()
        self.faults: list[str] = []
        self._torn: tuple[int, float] | None = None
        """The size at which a line was torn, and since when: who reads during a write may see half of it."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._here.exists():
                self._look()
            await anyio.sleep(0.005)

    def _look(self) -> None:
        here = self._here.read_bytes()
        source = self._source.read_bytes()
        self.inodes.add(self._here.stat().st_ino)
        if not source.startswith(here):
            self.faults.append(f"at {len(here)} bytes: no prefix of the source")
        if self._whole(here) == len(here):
            self._torn = None
        elif self._torn is None or self._torn[0] != len(here):
            self._torn = (len(here), time.monotonic())
        elif time.monotonic() - self._torn[1] > _A_WRITE:
            self.faults.append(f"at {len(here)} bytes: torn")
        if self.sizes and len(here) < self.sizes[-1]:
            self.faults.append(f"it shrank from {self.sizes[-1]} to {len(here)} bytes")
        if not self.sizes or len(here) != self.sizes[-1]:
            self.sizes.append(len(here))
