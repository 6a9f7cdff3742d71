"""The budget of file descriptors for staged and followed files, as a part of the process's limit.

The rest is for connections, the catalogue and the API. A batch that would hold more is published in slices: a file may
have a target in each experiment that an eval belongs to, and each target is a separate file that stays open until it is
published.
"""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Final

from msgspec.structs import replace

from harvestd.harvest.budgets import MemoryBudget
from harvestd.planning.plan import FetchGroup

_MOST: Final = 1_048_576
"""No process of ours needs more. With an unlimited hard limit, a child process would take very long to close all."""
BATCHES: Final = 2
"""Batches of small files that are staged at a time."""


def raise_limit() -> int:
    """Raise the process's soft limit of descriptors to the hard limit, and return it.

    Service managers and shells set the soft limit to 1,024 for programs that call select(2); none here do.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a kernel or a sandbox with a limit of its own
            return soft
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


@dataclass
class Descriptors:
    """How many descriptors each use may hold."""

    limit: int = 1024
    """Descriptors of the whole process."""
    bulk: MemoryBudget = dataclass_field(init=False)
    """For the staged files of large groups, over all hosts; a group that needs more than all of it runs alone."""
    open_logs: int = dataclass_field(init=False, default=0)
    """Growing files that may be open now, over all hosts: at least one for each host."""

    def __post_init__(self) -> None:
        self.bulk = MemoryBudget(max(1, self.limit // 4))

    @property
    def batch(self) -> int:
        """The most staged files of one batch of small files."""
        return max(1, self.limit // 2 // BATCHES)

    @property
    def most_logs(self) -> int:
        """The most growing files that may be open at once, over all hosts."""
        return self.limit // 8


def staged_files(group: FetchGroup) -> int:
    """Return how many staged files a group needs: one for each target of each file."""
    return sum(len(file.targets) for file in group.files)


def slices_of(group: FetchGroup, most: int) -> Iterator[FetchGroup]:
    """Yield the group in slices of at most `most` targets, or of one experiment if that has more.

    Each slice holds all that the group has for its experiments, so that the marker is the last file in each slice.
    """
    if staged_files(group) <= most:
        yield group
        return
    experiments = list(dict.fromkeys(target.experiment for file in group.files for target in file.targets))
    at_a_time = max(1, most // len(group.files))
    for start in range(0, len(experiments), at_a_time):
        yield _for_experiments(group, experiments[start : start + at_a_time])


def _for_experiments(group: FetchGroup, experiments: Sequence[str | None]) -> FetchGroup:
    wanted = set(experiments)
    files = (
        replace(file, targets=tuple(target for target in file.targets if target.experiment in wanted))
        for file in group.files
    )
    return replace(group, files=tuple(file for file in files if file.targets))
