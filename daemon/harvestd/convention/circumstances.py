"""What a box says of itself for a verdict, beside its trees: who works on it, and what lies outside of them. Values.

`Box.circumstances` gives them. All of it is a stranger's word: counted, bounded, and escaped where it is shown.
"""

from collections.abc import Mapping

from msgspec import field

from harvestd.convention.values import Immutable


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


class Circumstances(Immutable):
    """What speaks for or against switching a box off beside its trees. None: the box can't say, which is no comfort."""

    machine: str = ""
    """Its machine id, the same for as long as the installation lives; empty where it has none."""
    hostname: str = ""
    gpu_processes: int | None = None
    log_ins: int | None = None
    """Sessions of people, harvestd's own not among them."""
    transfers: int | None = None
    """Processes that carry files to or from the box (scp, rsync, sftp-server, rclone …), harvestd's not among them."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By root, as configured: the number of the device that its file system lies on. A root that is not there is not in
    it."""
    outside: Outside | None = None
    checkouts: tuple[Checkout, ...] | None = None
    """Those alone in which something would be lost."""
