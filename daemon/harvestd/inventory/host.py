"""The interface between providers of hosts and the code that watches hosts.

A **provider** sends full sets: each call of `publish` passes every host that the provider has now, and a host that is
not in the set is gone. It publishes as soon as it has its first set, even an empty one, and again whenever the set
changed. A provider that fails to get a new set keeps its last one by publishing nothing: a failed query is never an
empty set. `run` ends by cancellation alone. After an unexpected exception it is run again; only what concerns all hosts
(`HaltedForSafety`, `Fatal`) ends the process.
"""

from collections.abc import Callable
from typing import Protocol

from harvestd.convention.structs import Immutable
from harvestd.inventory.lambda_cloud.mounts import Mount


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
