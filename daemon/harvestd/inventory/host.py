"""The interface between providers of hosts and the code that watches hosts.

A **provider** sends full sets: each call of `publish` passes every host that the provider has now, and a host that is
not in the set is gone. It publishes as soon as it has its first set, even an empty one, and again whenever the set
changed. A provider that fails to get a new set keeps its last one by publishing nothing: a failed query is never an
empty set. `run` ends by cancellation alone. After an unexpected exception it is run again; only what concerns all hosts
(`HaltedForSafety`, `Fatal`) ends the process.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Protocol

from harvestd.convention.structs import Immutable

_HOUR = 3_600
_HUNDRED = 100


def cents_for(cents_per_hour: int | None, seconds: float | None) -> int | None:
    """Return the cost of a host for a number of seconds, rounded to whole cents, half a cent up.

    None where price or time is unknown; a negative time costs nothing.
    """
    if cents_per_hour is None or seconds is None:
        return None
    exact = Fraction(cents_per_hour) * Fraction(max(0.0, seconds)) / _HOUR
    return int(exact + Fraction(1, 2))


def cents_since(cents_per_hour: int | None, since: float | None, now: float) -> int | None:
    """Return the cost since a moment; both moments in Unix time, None where there is no such moment."""
    return cents_for(cents_per_hour, None if since is None else now - since)


def money(cents: int) -> str:
    """Return an amount as text, such as "$2.49"."""
    return f"${cents // _HUNDRED:,}.{cents % _HUNDRED:02}"


def rate(cents_per_hour: int) -> str:
    """Return a price as text, such as "$2.49/h"."""
    return f"{money(cents_per_hour)}/h"


class Mount(Immutable, order=True):
    """One of the cloud's file systems on a host."""

    point: str
    """Where it is mounted: an absolute path."""
    storage: str
    """The cloud's id of the file system."""


def storage_of(mounts: Iterable[Mount], roots: Iterable[str], user: str) -> str | None:
    """Return the one file system that holds all `roots`; None where there are several, or where it is unknown.

    Treating two disks as one would mix their runs, while treating one as two costs a second copy: in doubt it is None.
    """
    at = {PurePosixPath(mount.point): mount.storage for mount in mounts}
    # The cloud's images also link each file system in the user's home directory; the operator's roots may use either
    # path.
    at |= {PurePosixPath("/home", user, point.name): storage for point, storage in at.items()}
    found = {_below(PurePosixPath(root), at) for root in roots}
    return found.pop() if len(found) == 1 else None


def _below(root: PurePosixPath, at: dict[PurePosixPath, str]) -> str | None:
    """Return the file system that is mounted nearest above `root`."""
    return next((at[path] for path in (root, *root.parents) if path in at), None)


class Host(Immutable):
    """A host from its provider. Two that have the same identity are the same host, with changed details."""

    identity: str
    """Identifies this host for good: `static:{name}`, or the cloud's id. Never an address."""
    name: str
    """The operator's name for it."""
    address: str
    """Its present address."""
    source: str
    """The name of its provider."""
    port: int | None = None
    """The port of sshd; None: from the settings."""
    user: str | None = None
    """The user to log in as; None: from the settings."""
    hardware: str | None = None
    """In the form of directory names, such as "8x_h100", where the operator set it; None: it is detected."""
    instance_type: str | None = None
    """The cloud's name for its hardware, such as "gpu_8x_h100_sxm5"."""
    gpus: int | None = None
    """The number of GPUs according to the cloud."""
    experiment: str | None = None
    """The experiment that was set when the host was launched; None: none."""
    mounts: tuple[Mount, ...] = ()
    """The cloud's file systems on it."""
    region: str | None = None
    """The cloud's region."""
    cents_per_hour: int | None = None
    """Its price, in hundredths of the cloud's currency."""
    ending: bool = False
    """Whether its provider reports that it is being terminated; it may still answer."""
    peril: str = ""
    """The provider's state of a host that may end soon, such as "preempted" or "unhealthy"; empty otherwise."""
    storage: str | None = None
    """The file system of its trees, where the provider reports it; None: see `mounts`, else the host's own."""


Publish = Callable[[frozenset[Host]], None]
"""Takes the full set of one provider; returns at once and never raises."""


class Provider(Protocol):
    """A source of hosts; see the module for its obligations."""

    @property
    def name(self) -> str:
        """Return the value of `Host.source`; it is unique among providers."""
        ...

    async def run(self, publish: Publish) -> None:
        """Publish full sets until cancelled."""
        ...
