"""The inputs of a plan besides the scan: the records, the rules, and what is known of the host now. Values."""

from collections.abc import Collection, Mapping

from msgspec import field

from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import NO_TIME, StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.planning import retention
from harvestd.planning.index import PlanningIndex
from harvestd.planning.liveness import Life
from harvestd.planning.plan import FetchGroup


class Situation(Immutable):
    """The inputs of a plan besides the survey."""

    host: str
    storage: str
    knowledge: PlanningIndex
    selection: Selection
    sightings: StabilityTracker
    settle: float
    """Seconds of quiet after which a group without a marker is complete; `NO_TIME`: the host may end at any moment."""
    now: float
    """Monotonic seconds on our clock."""
    showing: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By the storage of each other connected host: the absolute paths of the evals that it shows."""
    undecided: Mapping[str, str] = field(default_factory=dict)
    """By the absolute path of a run or eval whose identity is not decided yet: the reason."""
    refused: Mapping[tuple[str, LocalPath], tuple[Version, str]] = field(default_factory=dict)
    """By (remote path, target): the version that could not be published, and why."""
    life: Life = field(default_factory=Life)
    """Facts for deciding whether a run has died."""
    failing: Collection[str] = ()
    """The remote paths of groups that failed repeatedly."""

    @property
    def is_ending(self) -> bool:
        """Whether the host may end at any moment, so that files not fetched now may be lost."""
        return self.settle == NO_TIME

    @property
    def checkpoint(self) -> CheckpointPolicy:
        """The policy for wanted checkpoints; on an ending host the newest substitutes for the final one."""
        policy = self.selection.checkpoint
        return CheckpointPolicy.FINAL_AND_LATEST if self.is_ending and policy is CheckpointPolicy.FINAL else policy

    def order(self, group: FetchGroup) -> tuple[float | str, ...]:
        """Return the sort key of a group: its value; on an ending host, then smaller groups of the same value first."""
        if not self.is_ending:
            return group.value, group.place
        return group.value, retention.is_passing(group.files[0].reason), group.size, group.place
