"""Local checkpoints of one run: which are complete, and which a newer one supersedes. Pure.

Only checkpoints that are kept until a newer one is local can be superseded. The newer one must be complete locally, as
the host shows it now, and have a file for each file of the older one: an empty final checkpoint supersedes nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import Group, LeftOut, RunDir
from harvestd.convention.scan.skipped import MANY
from harvestd.convention.scan.training import MARKER
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Link, Removal, UpdateReason
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.retention import FINAL, Rank, is_passing, rank

_STATE = "training_state"
_LATEST = "step_latest"


class CheckpointsHere:
    """The local checkpoints of a run, compared with those that the host shows."""

    def __init__(self, run: RunDir, record: RunRecord, destination: LocalPath, knowledge: PlanningIndex) -> None:
        """`destination` is the local directory of the run's files."""
        self._run = run
        self._shown = {group.path.name: group for group in run.checkpoints}
        self._final_step = record.final.step if record.final else None
        self._record = record
        self._above = (*destination.parts, _STATE)
        self._knowledge = knowledge
        # The run may have been fetched from another storage that also shows it.
        self._places = tuple(f"{each.place}/" for each in knowledge.runs_of(record.experiment))

    def is_here(self, name: str) -> bool:
        """Return whether a checkpoint is complete locally: as the host shows it, or else with its marker."""
        group = self._shown.get(name)
        return self._marker(name) is not None and (group is None or self._is_level(group))

    def _is_level(self, group: Group) -> bool:
        for member in group.members:
            record = self._at(group.path.name, member.rest[2:])
            if record is None or not self._is_ours(record) or record.version != member.source.version:
                return False
        return True

    def reason_kept(self, name: str) -> str | None:
        """Return the reason for which a checkpoint is kept; None if it is not complete locally."""
        marker = self._marker(name)
        return marker.reason if marker is not None and self.is_here(name) else None

    def begun(self, name: str) -> str | None:
        """Return the reason for which the marker of a checkpoint is kept, from any disk of the run; None if missing."""
        marker = self._marker(name)
        return None if marker is None else marker.reason

    def sealed_locally(self, group: Group) -> Group:
        """Return a group that needs no marker on its disk if the marker is already local: then only quiet counts."""
        without = group.needs_marker and group.marker is None and self._marker(group.path.name) is not None
        return replace(group, needs_marker=False) if without else group

    def reason(self, name: str, reason: str) -> str:
        """Return the reason for fetching a checkpoint; a permanent copy must not become a temporary one."""
        marker = self._marker(name)
        stays = marker is not None and not is_passing(marker.reason)
        return marker.reason if marker is not None and stays and is_passing(reason) else reason

    def link(self) -> Link | None:
        """Return the link step_latest if the target of the host's link is local."""
        if self._run.latest is None or self._marker(self._run.latest) is None:
            return None
        return Link(LocalPath((*self._above, _LATEST)), self._run.latest)

    def remarks(self, wanted: Mapping[str, str]) -> Iterator[UpdateReason]:
        """Yield changed reasons for files of temporary checkpoints that are now wanted for another reason."""
        for name, files in self._passing().items():
            reason = wanted.get(name)
            if reason is not None:
                yield from (UpdateReason(file, reason) for file in files if not file.reason.startswith(reason))

    def left_out(self, wanted: Collection[str], reason: str) -> list[LeftOut]:
        """Return a line for each checkpoint that is neither wanted nor local; one in total if they are many."""
        groups = [group for group in self._run.checkpoints if group.path.name not in wanted]
        found = [
            LeftOut(group.place, group.size, len(group.members), reason)
            for group in groups
            if not self.is_here(group.path.name)
        ]
        if len(found) <= MANY:
            return found
        # A host may show any number.
        entries, size = sum(each.entries for each in found), sum(each.size or 0 for each in found)
        above = f"{self._run.place}/{_STATE}"
        return [LeftOut(above, size, entries, f"{reason} (many in this directory, counted together)")]

    def removals(self, wanted: Collection[str]) -> Iterator[Removal]:
        """Yield the checkpoints that may be removed now; none of them is in `wanted`."""
        passing = self._passing()
        if not passing:
            return
        here = [name for name in {*self._shown, *passing, FINAL} if self.is_here(name)]
        best = max(here, key=self._rank, default=None)
        for name in sorted(passing):
            if best is None or name in wanted or self._rank(name) >= self._rank(best):
                continue
            kept = self._covering(best, passing[name])
            if kept is not None:
                files = sorted(passing[name], key=lambda each: not each.marker)
                yield Removal(LocalPath((*self._above, name)), tuple(files), best, tuple(kept))

    def removals_beside(self, beside: LocalPath, wanted: Collection[str]) -> Iterator[Removal]:
        """Yield removals below `beside`, which has the parts of the run whose names another disk has too.

        The newer checkpoint must have a local marker, and below `beside` a file for each of the removed ones.
        """
        other = CheckpointsHere(self._run, self._record, beside, self._knowledge)
        for name, files in sorted(other._passing().items()):
            newer = [each for each in self._shown if each in wanted and self._rank(each) > self._rank(name)]
            for best in sorted(newer, key=self._rank, reverse=True):
                marker = self._marker(best)
                kept = other._counterparts(best, files)
                if name not in wanted and marker is not None and None not in kept:
                    found = (marker, *(each for each in kept if each is not None))
                    yield Removal(LocalPath((*other._above, name)), tuple(files), best, found)
                    break

    def _counterparts(self, best: str, files: Collection[FileRecord]) -> list[FileRecord | None]:
        """Return the counterpart in a checkpoint of each of these files of an older one; None for a missing one."""
        found = (self._at(best, file.target.parts[len(self._above) + 1 :]) for file in files)
        pairs = zip(found, files, strict=True)
        return [newer if newer is not None and (newer.size or not file.size) else None for newer, file in pairs]

    def _covering(self, best: str, files: Collection[FileRecord]) -> list[FileRecord] | None:
        """Return the newer checkpoint's marker and counterparts of these files; None if any is missing."""
        found = [self._marker(best), *self._counterparts(best, files)]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None

    def _passing(self) -> Mapping[str, list[FileRecord]]:
        """Return the files that are kept only until a newer checkpoint is local, by checkpoint."""
        found: defaultdict[str, list[FileRecord]] = defaultdict(list)
        depth = len(self._above)
        for file in self._knowledge.passing_of(self._record.experiment):
            parts = file.target.parts
            if self._is_ours(file) and parts[:depth] == self._above and len(parts) > depth + 1:
                found[parts[depth]].append(file)
        return found

    def _rank(self, name: str) -> Rank:
        return rank(name, self._final_step)

    def _marker(self, name: str) -> FileRecord | None:
        marker = self._at(name, (MARKER,))
        return marker if marker is not None and self._is_ours(marker) else None

    def _at(self, name: str, rest: tuple[str, ...]) -> FileRecord | None:
        return self._knowledge.holder_at((*self._above, name, *rest))

    def _is_ours(self, file: FileRecord) -> bool:
        return file.place.startswith(self._places)
