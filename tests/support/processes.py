"""Process trees of this machine, read from /proc: who descends from whom, and ending a whole family.

Only ever signals processes that the caller named and their descendants, held by pidfd so that a number that was used
again is never hit.
"""

import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

_DEADLINE = 30.0
"""Seconds for a family to end after its signal, before SIGKILL."""


def descendants(*pids: int) -> list[int]:
    """Return the ids of all processes below `pids`, parents before their children, without `pids` themselves."""
    children = defaultdict[int, list[int]](list)
    for pid, content in _each("stat"):
        # The command's name stands in brackets and may hold anything; the fields after it are plain.
        children[int(content.rpartition(b")")[2].split()[1])].append(pid)
    found: list[int] = []
    level = list(pids)
    while level:
        level = [child for parent in level for child in children[parent]]
        found.extend(level)
    return found


def with_environment(variable: str, value: str) -> list[int]:
    """Return the ids of all processes that were started with `variable` set to `value`, orphans among them."""
    wanted = os.fsencode(f"{variable}={value}")
    return [pid for pid, content in _each("environ") if wanted in content and wanted in content.split(b"\0")]


def _each(name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the id of each process with the content of its file `name` in /proc, unless that can't be read.

    It is asked for when a server of a test ends, so it is done by plain calls.
    """
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208  (see above)
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123  (see above)
            yield int(pid), file.readall()


def end_family(pid: int, how: signal.Signals, others: Iterable[int] = ()) -> None:
    """Send `how` to `pid`, all its descendants and `others`; wait until they ended, with SIGKILL after a deadline.

    The family is frozen first, so that none of them starts another meanwhile.
    The caller reaps `pid` where it is its child.
    """
    with ExitStack() as stack:
        held: dict[int, int] = {}

        def freeze(candidates: Iterable[int]) -> bool:
            grown = False
            for candidate in candidates:
                if candidate not in held:
                    with suppress(ProcessLookupError):
                        held[candidate] = os.pidfd_open(candidate)
                        stack.callback(os.close, held[candidate])
                        signal.pidfd_send_signal(held[candidate], signal.SIGSTOP)
                        grown = True
            return grown

        freeze([pid, *others])
        while freeze(descendants(*held)):
            pass
        _send(held.values(), how)
        _send(held.values(), signal.SIGCONT)
        if left := _wait_until_ended(held.values()):
            _send(left, signal.SIGKILL)
            left = _wait_until_ended(left)
        if left:
            raise TimeoutError(f"{len(left)} processes survived SIGKILL")


def _send(handles: Iterable[int], how: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, how)


def _wait_until_ended(handles: Iterable[int]) -> set[int]:
    """Return the handles of those that still live after the deadline."""
    alive = set(handles)
    give_up = time.monotonic() + _DEADLINE
    while alive and (left := give_up - time.monotonic()) > 0:
        ended, _, _ = select.select(list(alive), [], [], left)
        alive.difference_update(ended)
    return alive
