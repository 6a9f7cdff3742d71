"""The contract between those who know hosts and those who watch them.

A **provider** sends full sets: each call of `publish` gives every host that the provider knows now, and what is not in
it is gone. It publishes once as soon as it knows its first set, an empty one too, and again whenever the set changed. A
provider that fails to learn a new set keeps its last one by publishing nothing: an answer that can't be had is never an
empty set. `run` ends by cancellation alone. After an unexpected exception it is run again; only what
concerns all hosts (`HaltedForSafety`, `Fatal`) ends the process.
"""

from collections.abc import Callable
from typing import Protocol

from harvestd.convention.structs import Immutable
from harvestd.inventory.lambda_cloud.mounts import Mount


class Host(Immutable):
    """A box, as its provider knows it. Two that differ in anything but their identity are the same box, changed."""

    identity: str
    """What makes it this box and no other, for good: `static:{name}`, or the cloud's id. Never an address."""
    name: str
    """What the operator calls it."""
    address: str
    """Where it answers at the moment."""
    source: str
    """The name of its provider."""
    port: int | None = None
    """Where sshd listens; None: as the settings say."""
    user: str | None = None
    """Who we are there; None: as the settings say."""
    hardware: str | None = None
    """As it stands in directory names, such as "8x_h100", where the operator says so; None: it is found out."""
    instance_type: str | None = None
    """What the cloud calls its hardware, such as "gpu_8x_h100_sxm5"."""
    gpus: int | None = None
    """How many GPUs the cloud says it has."""
    experiment: str | None = None
    """The experiment that whoever started the box gave it; None: none."""
    mounts: tuple[Mount, ...] = ()
    """The cloud's file systems on it."""
    region: str | None = None
    """Where the cloud keeps it."""
    cents_per_hour: int | None = None
    """What it costs, in hundredths of the cloud's currency."""
    ending: bool = False
    """Whether its provider says that it is being switched off; it may well answer still."""
    peril: str = ""
    """What its provider calls its state where it may end soon, such as "preempted" or "unhealthy"; empty otherwise."""
    storage: str | None = None
    """What the box's trees lie on, where the provider knows; None: see `mounts`, else it is the box itself."""


Publish = Callable[[frozenset[Host]], None]
"""Takes the full set of one provider; returns at once and never raises."""


class Provider(Protocol):
    """Knows some hosts; see the module for the contract."""

    @property
    def name(self) -> str:
        """Return what `Host.source` says; no two providers share one."""
        ...

    async def run(self, publish: Publish) -> None:
        """Publish full sets until cancelled."""
        ...
