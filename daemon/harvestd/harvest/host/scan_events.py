"""What a scan shows beyond its plan: events on trees and evals, and the view for hosts that share the storage."""

import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from harvestd.convention.scan.model import EvalDir, ScanResult, View, may_see_more, sees_more
from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.convention.scan.stability import NETWORK_SETTLE
from harvestd.convention.structs import Steps
from harvestd.harvest.context import Context
from harvestd.harvest.state import VisibleEvals
from harvestd.inventory.host import Host
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger


class SharedView:
    """What one host shows, compared with the other connected hosts of its storage."""

    def __init__(self, host: Host, context: Context) -> None:
        self._host = host
        self._context = context
        self._registered: ScanResult | None = None
        """The scan result that is registered for the planners of other hosts."""
        self._places: frozenset[str] = frozenset()
        """The remote paths of its evals."""
        self.is_superseded = False
        """Whether another connected host of the storage shows trees that this one does not show, or no longer shows."""
        self._superseded_since: float | None = None
        """Since when that may be so, in monotonic seconds."""

    def register(self, seen: ScanResult, snapshot: Snapshot) -> None:
        """Register what this host shows, for the planners of hosts that may share its file system."""
        state = self._context.states.of(self._host.identity)
        if self._registered is not seen and state.visible is not None:
            self._registered, self._places = seen, frozenset(each.place for each in seen.evals if each.run is not None)
        view = View.of(snapshot)
        if state.visible is not None:
            state.visible = VisibleEvals(self._context.storage_of(self._host), self._places, view)
        self.is_superseded = self._is_superseded(view, time.monotonic())

    def _is_superseded(self, view: View, now: float) -> bool:
        others = self._context.states.views_beside(self._host.identity, self._context.storage_of(self._host))
        if any(sees_more(other, view) for other in others):
            return True
        if not any(may_see_more(other, view) for other in others):
            self._superseded_since = None
            return False
        # What another host wrote a moment ago may just not be visible here yet.
        if self._superseded_since is None:
            self._superseded_since = now
        return now - self._superseded_since > NETWORK_SETTLE


class ScanEvents:
    """Logs what scans of one host show, each fact once."""

    def __init__(self, host: Host, context: Context) -> None:
        self._host = host
        self._context = context
        self.missing_roots: set[str] = set()
        """Configured roots that the last scan did not find."""
        self._drifting: set[str] = set()
        self._emptied_roots: set[str] = set()
        self._rejected = 0
        self._seen_evals: set[str] = set()

    def log_trees(self, snapshot: Snapshot, *, is_new: bool) -> None:
        """Log what a scan says of the trees for the first time; `is_new`: they changed since the last one."""
        missing = {listing.tree.root for listing in snapshot.listings if listing.state is TreeState.NO_ROOT}
        for root in sorted(missing - self.missing_roots):
            get_logger().warning(
                Event.HOST_ROOT_MISSING,
                host=self._host.name,
                path=root,
                error="the root does not exist on the box",
                hint="is its file system mounted? Otherwise set remote.roots, or roots in the host's table",
            )
        self.missing_roots = missing
        drifting = {str(each.tree): each.filesystem for each in snapshot.listings if each.drifts}
        for place in sorted(drifting.keys() - self._drifting):
            get_logger().info(
                Event.HOST_INODES_IGNORED, host=self._host.name, path=place, filesystem=drifting[place] or "unknown"
            )
        self._drifting |= drifting.keys()
        if is_new:
            self._log_emptied(snapshot, missing)
        if snapshot.rejected > self._rejected:
            get_logger().warning(
                Event.FILE_REJECTED, host=self._host.name, error=f"{snapshot.rejected} names that can't be used"
            )
        self._rejected = snapshot.rejected

    def _log_emptied(self, snapshot: Snapshot, missing: AbstractSet[str]) -> None:
        """Warn once of a root that is empty although files came from it; nothing is removed here."""
        full = {listing.tree.root for listing in snapshot.listings if listing.entries or listing.unreadable}
        elsewhere = {TreeState.DENIED, TreeState.TWIN}
        unseen = {listing.tree.root for listing in snapshot.listings if listing.state in elsewhere}
        bare = {listing.tree.root for listing in snapshot.listings} - full - unseen - missing
        storage = self._context.storage_of(self._host)
        emptied = {
            root
            for root in bare
            if root in self._emptied_roots or self._context.catalogue.knowledge.any_below(storage, root)
        }
        for root in sorted(emptied - self._emptied_roots):
            get_logger().warning(
                Event.HOST_ROOT_MISSING,
                host=self._host.name,
                path=root,
                error="nothing is left in the root, though files came from it",
                hint="is its file system mounted? What came from it stays here",
            )
        self._emptied_roots = emptied

    def logging_evals(self, evals: Iterable[EvalDir]) -> Steps[None]:
        """Log evals that are new to this process and, judging by the records, to earlier ones; yield before each."""
        for eval_dir in evals:
            if eval_dir.place in self._seen_evals:
                continue
            yield
            self._seen_evals.add(eval_dir.place)
            sources = (member.source for group in eval_dir.groups for member in group.members)
            storage = self._context.storage_of(self._host)
            if not any(self._context.catalogue.knowledge.copies(storage, source.place) for source in sources):
                get_logger().info(Event.EVAL_DISCOVERED, host=self._host.name, path=eval_dir.place)
