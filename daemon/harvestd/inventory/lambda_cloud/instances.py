"""The cloud's instances, and an answer that names them, as checked values: `answers` alone makes them from bytes."""

from harvestd.convention.structs import Immutable
from harvestd.inventory.lambda_cloud.mounts import Mount

MOST_BYTES = 4 * 1024 * 1024
"""Of one answer."""
MOST_INSTANCES = 1_000
"""In one answer."""
_ENDING = frozenset({"terminating", "terminated", "preempted"})
"""States of an instance that will not come back."""


class Instance(Immutable):
    """One instance, as far as an answer tells of it."""

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
        """Whether it will not come back, by its state."""
        return self.status in _ENDING


class Answer(Immutable):
    """All instances that exist, by what one answer says."""

    instances: tuple[Instance, ...]
    whole: bool
    """Whether every entry could be read, so that who is not in it may be gone."""
