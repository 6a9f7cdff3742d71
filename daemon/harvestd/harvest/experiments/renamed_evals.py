"""Records the new paths of evals that were renamed on one host, once the host's hash proves it.

Their local files are then moved as well, so that an eval exists here once, under the name that it has on its host.
"""

from collections.abc import Collection, Sequence

from harvestd.convention.scan.model import EvalDir, ScanResult
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.convention.scan.stability import NETWORK_SETTLE
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.rehash import Hashed, hash_there
from harvestd.inventory.host import Host
from harvestd.planning.identity.renamed_evals import EvalsOnHost, RenamedEval, moved_evals
from harvestd.remote.api import Reader
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger


class RenamedEvals:
    """Recognises renamed evals of one connected host."""

    def __init__(self, host: Host, context: Context, troubles: FailureTracker, undecided: dict[str, str]) -> None:
        """`undecided` receives the reason why an eval waits, by its remote path."""
        self._host = host
        self._context = context
        self._troubles = troubles
        self._undecided = undecided
        self._storage = context.storage_of(host)
        self._evals = EvalsOnHost(self._storage, context.catalogue.knowledge)
        self._held: dict[RenamedEval, float] = {}
        """Proven renames that another host still shows under the old name: since when, in monotonic seconds."""

    async def prove(self, whole: tuple[ScanResult, Snapshot], reader: Reader, now: float) -> None:
        """Note the renames that the newest scan proves. Raise `Retry` when the link is lost."""
        shown, snapshot = whole
        candidates = {each.proof: each for each in self._evals.looked(shown.evals, snapshot)}

        async def conclude(hashed: Hashed) -> None:
            for item, opened in hashed:
                if opened.verified == item.record.sha256:
                    self._held[candidates[item]] = now

        if candidates:
            await hash_there(list(candidates), reader, self._troubles, conclude)

    async def record(self, whole: tuple[ScanResult, Snapshot], now: float) -> None:
        """Record the new paths of the files of proven renames; the caller holds `Context.learning`."""
        if not self._held:
            return
        shown, snapshot = whole
        others = self._shown_by_others()
        due: list[RenamedEval] = []
        for each, since in list(self._held.items()):
            self._undecided.pop(each.eval_dir, None)
            if each.proof.record.place in others and now - since < NETWORK_SETTLE:
                self._undecided[each.eval_dir] = f"another host still shows it as {each.before}"
            else:
                due.append(each)
                del self._held[each]
        if due:
            await self._move(due, shown.evals, snapshot)

    def _shown_by_others(self) -> Collection[str]:
        """Return the remote paths of eval files that other hosts show on this file system, by their newest scans."""
        return {
            member.source.place
            for outlook in self._context.states.outlooks()
            if outlook.host.identity != self._host.identity and self._context.storage_of(outlook.host) == self._storage
            for eval_dir in outlook.seen.evals
            for group in eval_dir.groups
            for member in group.members
        }

    async def _move(self, due: Sequence[RenamedEval], evals: Sequence[EvalDir], snapshot: Snapshot) -> None:
        catalogue = self._context.catalogue
        files = moved_evals(due, evals, snapshot, self._storage, catalogue.knowledge)
        await catalogue.save_files(files)
        self._context.changes.touch({file.experiment for file in files})
        for each in due:
            get_logger().info(Event.EVAL_RENAMED, host=self._host.name, path=each.after, old=each.before)
