"""One class of error for each decision that a caller takes.

Whoever catches one of these knows what to do next without reading its text: try again later (`Retry`), leave this
host alone (`HostQuarantined`), stop touching the data root (`HaltedForSafety`) or end the process (`Fatal`).
The text is for the operator: it names the thing, and `hint` names the way out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller at the end; a promise to scripts."""

    OK = 0
    CONFIGURATION = 2
    """The configuration or the command line can't be used."""
    PARTIAL = 3
    """Some hosts or files failed."""
    UNKNOWN_NAME = 4
    NO_HOST = 5
    """No host could be reached at all."""
    DISK_FULL = 6
    LOCKED = 7
    """Another daemon holds the data root (or, for a question to the daemon: none runs)."""
    NOT_SAFE = 10


class HarvestError(Exception):
    """Anything that harvestd says about the world outside; never a bug in harvestd itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Retry(HarvestError):
    """Passing trouble with one host: a lost link, a time-out, a busy sshd. Try again after a pause."""


class HostQuarantined(HarvestError):
    """This host refuses us or broke a rule. Trying again at once can only do harm; the other hosts go on."""


class HaltedForSafety(HarvestError):
    """The local side can't be trusted with writes now (disk full, catalogue failing). Stop publishing everywhere."""


class DiskFull(HaltedForSafety):
    """No room, or no quota, for the data root or the catalogue. Fetching goes on when there is room again."""


class Fatal(HarvestError):
    """The process can't do what it was started for; it ends with `exit_code`."""

    def __init__(self, message: str, *, hint: str = "", exit_code: ExitCode = ExitCode.CONFIGURATION) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


_GRAVEST_FIRST = (Fatal, HaltedForSafety, HostQuarantined, Retry)


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the gravest error of a task group by itself, since callers decide by its class.

    Anything in the group that is none of our errors is a bug: then the whole group passes through.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        ours, others = group.split(HarvestError)
        if others is not None or ours is None:
            raise
        found = list(_leaves(ours))
        raise min(found, key=_gravity) from group


def _leaves(group: BaseExceptionGroup[HarvestError]) -> Iterator[HarvestError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _gravity(error: HarvestError) -> int:
    return next((i for i, kind in enumerate(_GRAVEST_FIRST) if isinstance(error, kind)), len(_GRAVEST_FIRST))
