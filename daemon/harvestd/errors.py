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

    @property
    def with_hint(self) -> str:
        """The message and the hint in one text, for where only one is kept."""
        return f"{self} (hint: {self.hint})" if self.hint else str(self)


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


class HostFailed(HarvestError):
    """A defect of harvestd ended the work on one host. The other hosts go on."""


def concerns_all(error: BaseException) -> bool:
    """Return whether an error concerns all hosts, so that no bulkhead may hold it back.

    A full disk does not: each host waits for room by itself.
    """
    return isinstance(error, Fatal | HaltedForSafety) and not isinstance(error, DiskFull)


def _gravity(error: BaseException) -> int:
    """Return the place of an error in the order of gravity: 0 is the gravest."""
    match error:
        case Fatal():
            return 0
        case DiskFull():
            return 2
        case HaltedForSafety():
            return 1
        case HostQuarantined():
            return 3
        case Retry():
            return 4
        case _:
            return 5


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the gravest error of a task group by itself, since callers decide by its class.

    An exception that is none of ours, beside one of ours or alone, is a defect: the whole group passes through, for the
    bulkhead of the host or the service. An error that concerns all hosts is raised whatever lies beside it.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        gravest = min(leaves(group), key=_gravity)
        _, unexpected = group.split(HarvestError)
        if unexpected is None or (isinstance(unexpected, Exception) and concerns_all(gravest)):
            raise gravest from group
        raise


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the members of a group, of the groups in it too; of an error that is no group itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error
