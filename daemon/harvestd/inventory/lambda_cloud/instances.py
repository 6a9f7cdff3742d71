"""The cloud's instances, and an answer that lists them, as checked values; only `parse` makes them from bytes."""

from harvestd.convention.structs import Immutable
from harvestd.inventory.lambda_cloud.mounts import Mount

MOST_BYTES = 4 * 1024 * 1024
"""Of one answer."""
MOST_INSTANCES = 1_000
"""In one answer."""
_ENDING = frozenset({"terminating", "terminated", "preempted"})
"""States of an instance that will not return."""


class Instance(Immutable):
    """One instance, with the details of one or several answers."""

    id: str
    name: str | None = None
    address: str | None = None
    status: str | None = None
    instance_type: str | None = None
    gpus: int | None = None
    experiment: str | None = None
    region: str | None = None
    cents_per_hour: int | None = None
    mounts: tuple[Mount, ...] | None = None
    hostname: str | None = None
    can_end: bool | None = None
    """Whether the cloud would terminate it now."""

    @property
    def is_ending(self) -> bool:
        """Whether its state means that it will not return."""
        return self.status in _ENDING


class Answer(Immutable):
    """All instances that exist, according to one answer."""

    instances: tuple[Instance, ...]
    whole: bool
    """Whether every entry could be parsed, so that a missing instance may be gone."""
