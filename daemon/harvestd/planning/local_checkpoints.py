"""The checkpoints of one run at home: which are here as a whole, and which a newer one supersedes. Pure.

Superseded are those alone that are here only until a newer one is. The newer one must be here as a whole, as the box
shows it now, and hold a file for each file of the older one: an empty final checkpoint supersedes nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import Group, LeftOut, RunDir
from harvestd.convention.scan.skipped import MANY
from harvestd.convention.scan.training import MARKER
from harvestd.planning.index import Knowledge
from harvestd.planning.plan import Link, Remark, Removal
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.retention import FINAL, Rank, is_passing, rank

_STATE = "training_state"
_LATEST = "step_latest"


class CheckpointsHere:
    """What is known of them, beside what the box shows of the same run."""

    def __init__(self, run: RunDir, record: RunRecord, home: LocalPath, knowledge: Knowledge) -> None:
        """`home` is where the run's files lie."""
        self._run = run
        self._shown = {group.path.name: group for group in run.checkpoints}
        self._final_step = record.final.step if record.final else None
        self._record = record
        self._above = (*home.parts, _STATE)
        self._knowledge = knowledge
        # The run may have been brought by way of another storage that showed it, too.
        self._places = tuple(f"{each.place}/" for each in knowledge.runs_of(record.experiment))

    def is_here(self, name: str) -> bool:
        """Return whether a checkpoint is at home as a whole: as the host shows it, or with its marker."""
        group = self._shown.get(name)
        return self._marker(name) is not None and (group is None or self._is_level(group))

    def _is_level(self, group: Group) -> bool:
        for member in group.members:
            record = self._at(group.path.name, member.rest[2:])
            if record is None or not self._is_ours(record) or record.version != member.source.version:
                return False
        return True

    def standing(self, name: str) -> str | None:
        """Return the reason for which a checkpoint is here; None where it is not, or not as a whole."""
        marker = self._marker(name)
        return marker.reason if marker is not None and self.is_here(name) else None

    def begun(self, name: str) -> str | None:
        """Return the reason for which the marker of a checkpoint is here, whichever disk of the run it came from."""
        marker = self._marker(name)
        return None if marker is None else marker.reason

    def sealed_at_home(self, group: Group) -> Group:
        """Return a group as one that is complete by quiet alone, where its marker is at home and not on its disk."""
        without = group.needs_marker and group.marker is None and self._marker(group.path.name) is not None
        return replace(group, needs_marker=False) if without else group

    def reason(self, name: str, reason: str) -> str:
        """Return the reason for fetching a checkpoint: what is here for good must not come anew for a while only."""
        marker = self._marker(name)
        stays = marker is not None and not is_passing(marker.reason)
        return marker.reason if marker is not None and stays and is_passing(reason) else reason

    def link(self) -> Link | None:
        """Return the link step_latest, where what the box's points to is here."""
        if self._run.latest is None or self._marker(self._run.latest) is None:
            return None
        return Link(LocalPath((*self._above, _LATEST)), self._run.latest)

    def remarks(self, wanted: Mapping[str, str]) -> Iterator[Remark]:
        """Yield what was here only for a while and is wanted for another reason now."""
        for name, files in self._passing().items():
            reason = wanted.get(name)
            if reason is not None:
                yield from (Remark(file, reason) for file in files if not file.reason.startswith(reason))

    def left_out(self, wanted: Collection[str], reason: str) -> list[LeftOut]:
        """Return a line for each checkpoint that is neither wanted nor here; one in all where they are many."""
        groups = [group for group in self._run.checkpoints if group.path.name not in wanted]
        found = [
            LeftOut(group.place, group.size, len(group.members), reason)
            for group in groups
            if not self.is_here(group.path.name)
        ]
        if len(found) <= MANY:
            return found
        # A box may make up any number.
        entries, size = sum(each.entries for each in found), sum(each.size or 0 for each in found)
        above = f"{self._run.place}/{_STATE}"
        return [LeftOut(above, size, entries, f"{reason} (many in this directory, counted together)")]

    def removals(self, wanted: Collection[str]) -> Iterator[Removal]:
        """Yield what may go now: nothing of what is wanted."""
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
        """Return what may go of files below `beside`, where a part of the run has names that another disk has too.

        The newer checkpoint must have its marker at home, and below `beside` a file for each of these.
        """
        other = CheckpointsHere(self._run, self._record, beside, self._knowledge)
        for name, files in sorted(other._passing().items()):
            newer = [each for each in self._shown if each in wanted and self._rank(each) > self._rank(name)]
            for best in sorted(newer, key=self._rank, reverse=True):
                marker = self._marker(best)
                kept = other._standing_for(best, files)
                if name not in wanted and marker is not None and None not in kept:
                    found = (marker, *(each for each in kept if each is not None))
                    yield Removal(LocalPath((*other._above, name)), tuple(files), best, found)
                    break

    def _standing_for(self, best: str, files: Collection[FileRecord]) -> list[FileRecord | None]:
        """Return what a checkpoint has for each of these files of an older one; None for what it lacks."""
        found = (self._at(best, file.target.parts[len(self._above) + 1 :]) for file in files)
        pairs = zip(found, files, strict=True)
        return [newer if newer is not None and (newer.size or not file.size) else None for newer, file in pairs]

    def _covering(self, best: str, files: Collection[FileRecord]) -> list[FileRecord] | None:
        """Return what the newer checkpoint has for each of these files, and its marker; None where it lacks any."""
        found = [self._marker(best), *self._standing_for(best, files)]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None

    def _passing(self) -> Mapping[str, list[FileRecord]]:
        """Return what is here only until something newer is, by checkpoint."""
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
