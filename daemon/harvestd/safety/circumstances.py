"""What a box says of itself for a verdict, beside its trees: who works on it, and what lies outside of them. Values.

`Box.circumstances` gives them. All of it is a stranger's word: counted, bounded, and escaped where it is shown.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.structs import Immutable


class Checkout(Immutable):
    """A git checkout in the home directory that holds work which is nowhere else."""

    place: str
    """Its absolute path on the box."""
    changed: int
    """Files that differ from the last commit, or that git does not know; 0 where only commits are at stake."""
    unpushed: int
    """Commits that no remote branch holds."""


class Outside(Immutable):
    """Files outside the watched trees that changed lately."""

    files: int
    size: int
    """Bytes."""
    newest: tuple[str, ...] = ()
    """The absolute paths of a few of them."""
    whole: bool = True
    """Whether all of the home directory, the roots and the farther places that people use could be looked through
    within the time and the number set; in farther places what others keep to themselves does not count."""
    missed: str = ""
    """The first place that was not looked through, and why; empty where all was, or where the host does not say."""


class CarrierState(StrEnum):
    """Why a program that carries files counts; the values are those of the probe's protocol."""

    MOVES = "moves"
    """It moved bytes lately."""
    OPEN = "open"
    """It has a file below the roots open."""
    UNSENT = "unsent"
    """It mounts something, and its cache holds data that was not sent."""
    UNKNOWN = "unknown"
    """What it does is not shown to the user that harvestd logs in as."""


class Carrier(Immutable):
    """A process that carries files to or from a host now."""

    program: str
    pid: int
    state: CarrierState


class Circumstances(Immutable):
    """What speaks for or against switching a box off beside its trees. None: the box can't say, which is no comfort."""

    machine: str = ""
    """Its machine id, the same for as long as the installation lives; empty where it has none."""
    hostname: str = ""
    gpu_processes: int | None = None
    log_ins: int | None = None
    """Sessions of people, harvestd's own not among them."""
    transfers: int | None = None
    """Processes that carry files to or from the host now (scp, rsync, sftp-server, rclone …), harvestd's excluded."""
    carriers: tuple[Carrier, ...] = ()
    """The first of them."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By root, as configured: the number of the device that its file system lies on. A root that is not there is not in
    it."""
    outside: Outside | None = None
    checkouts: tuple[Checkout, ...] | None = None
    """Those alone in which something would be lost."""
    unclear: str = ""
    """Why nothing is known of checkouts, or of all of it; empty where it is known, or where the host does not say."""
    gpus_unclear: str = ""
    """Why nothing is known of the processes on its GPUs; empty as `unclear` is."""

    def without(self, programs: Collection[str]) -> "Circumstances":
        """Return the same without those carriers whose program is one of `programs`."""
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
    """Return the programs that carry files, with their processes and why each counts, in words; empty without any."""
    shown = [f"{each.program} (process {each.pid}: {_STATES[each.state]})" for each in found.carriers[:_SHOWN_CARRIERS]]
    return ", ".join(shown)
