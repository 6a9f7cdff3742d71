"""One error class for each decision that a caller takes.

A caller can act on the class without reading the text: try again later (`Retry`), leave this host alone
(`HostQuarantined`), stop writing to the data root (`HaltedForSafety`) or end the process (`Fatal`). The text is for the
operator: it names what is affected, and `hint` names the solution.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """The process's exit code; scripts rely on it."""

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
    """Another daemon holds the data root (or, for a command that queries the daemon: none runs)."""
    NOT_SAFE = 10


class HarvestError(Exception):
    """An error of the environment that harvestd reports; never a defect of harvestd itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def with_hint(self) -> str:
        """The message and the hint in one text, for places that hold only one."""
        return f"{self} (hint: {self.hint})" if self.hint else str(self)


class Retry(HarvestError):
    """A temporary problem with one host: a lost link, a time-out, a busy sshd. Try again after a pause."""


class HostQuarantined(HarvestError):
    """The host refuses us or broke a rule. Retrying at once can only do harm; the other hosts go on."""


class HaltedForSafety(HarvestError):
    """The local side must not be written to now (disk full, catalogue failing). Stop publishing everywhere."""


class DiskFull(HaltedForSafety):
    """No space or quota for the data root or the catalogue. Fetching goes on when there is space again."""


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
    """Return the rank of an error by severity; 0 is the most severe."""
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
    """Raise the most severe error of a task group by itself, since callers decide by its class.

    If the group holds an exception that is not a `HarvestError`, it is a defect: the whole group passes through, for
    the bulkhead of the host or the service. An error that concerns all hosts is raised in any case.
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
    """Yield the errors in a group, nested groups included; yield `error` itself if it is not a group."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error
