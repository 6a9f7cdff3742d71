"""A host's report about itself for a verdict: activity on it, and files outside its trees. Values.

`Box.circumstances` returns it. Everything is untrusted: counted, bounded, and escaped for display.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.structs import Immutable


class Checkout(Immutable):
    """A git checkout in the home directory with work that is nowhere else."""

    place: str
    """The absolute path on the host."""
    changed: int
    """Files that differ from the last commit or are untracked; 0 if only commits would be lost."""
    unpushed: int
    """Commits that are on no remote branch."""


class Outside(Immutable):
    """Recently changed files outside the watched trees."""

    files: int
    size: int
    """Bytes."""
    newest: tuple[str, ...] = ()
    """Absolute paths of some of them."""
    whole: bool = True
    """Whether the home directory, the roots and the other usual places could be searched completely within the limits
    of time and number; unreadable directories of others in the usual places do not count."""
    missed: str = ""
    """The first place that was not searched, and why; empty if everything was, or if the host gives no reason."""


class CarrierState(StrEnum):
    """Why a program counts as transferring files; the values are those of the probe's protocol."""

    MOVES = "moves"
    """It transferred bytes recently."""
    OPEN = "open"
    """It has an open file below the roots."""
    UNSENT = "unsent"
    """It provides a mount, and its cache has unsent data."""
    UNKNOWN = "unknown"
    """Its activity is not visible to harvestd's user."""


class Carrier(Immutable):
    """A process that transfers files to or from a host."""

    program: str
    pid: int
    state: CarrierState


class Circumstances(Immutable):
    """Facts beside the trees for or against terminating a host. None means unknown and is treated as unsafe."""

    machine: str = ""
    """Its machine id, which is constant for an installation; empty if it has none."""
    hostname: str = ""
    gpu_processes: int | None = None
    log_ins: int | None = None
    """Sessions of people, without harvestd's own."""
    transfers: int | None = None
    """Processes that transfer files to or from the host (scp, rsync, sftp-server, rclone …), without harvestd's own."""
    carriers: tuple[Carrier, ...] = ()
    """The first few of them."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By configured root: the device number of its file system. A root that does not exist has no entry."""
    outside: Outside | None = None
    checkouts: tuple[Checkout, ...] | None = None
    """Only those in which something would be lost."""
    unclear: str = ""
    """Why checkouts, or everything, are unknown; empty if they are known, or if the host gives no reason."""
    gpus_unclear: str = ""
    """Why the GPU processes are unknown; empty in the same cases as `unclear`."""

    def without(self, programs: Collection[str]) -> "Circumstances":
        """Return the same facts without the carriers that run one of `programs`."""
        if self.transfers is None or not programs:
            return self
        left = tuple(each for each in self.carriers if each.program not in programs)
        return replace(self, carriers=left, transfers=self.transfers - (len(self.carriers) - len(left)))


_SHOWN_CARRIERS = 3
_STATES = {
    CarrierState.MOVES: "moved bytes lately",
    CarrierState.OPEN: "has files below the roots open",
    CarrierState.UNSENT: "its cache holds unsent data",
    CarrierState.UNKNOWN: "what it does is not shown; verdict.ignore_programs passes over it",
}


def carriers_named(found: Circumstances) -> str:
    """Return the programs that transfer files as text, each with its process and reason; empty if there are none."""
    shown = [f"{each.program} (process {each.pid}: {_STATES[each.state]})" for each in found.carriers[:_SHOWN_CARRIERS]]
    return ", ".join(shown)
