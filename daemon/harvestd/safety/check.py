"""Computes the verdict on one host from evidence: whether it may be terminated. Pure.

A verdict never errs in the direction that loses data: a host is safe only by proofs, and anything unknown is a reason
against it. Reasons are ordered by what a person can do: first what needs action, last what only takes time.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from harvestd.convention.kinds import LossKind
from harvestd.convention.scan.snapshot import EntryType, Listing, TreeState
from harvestd.convention.scan.stability import NETWORK_SETTLE, is_network
from harvestd.safety.accounting import obstacles
from harvestd.safety.inputs import Circumstances, Evidence, ScanEvidence, carriers_named
from harvestd.safety.losses import losses_beside
from harvestd.safety.verdict import Reason, ReasonKind, Survival, Verdict, VerdictAnswer

FRESH: Final = 120.0
"""Seconds: an older scan is not evidence of the present state."""
_CONFIRM: Final = "; if that is right, harvestd accept-root HOST confirms it"


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on one host."""
    if not evidence.connected or evidence.scan is None:
        kind = ReasonKind.NOT_LOOKED_AT if evidence.connected else ReasonKind.NOT_CONNECTED
        away = f"it is not connected{_because(evidence.unreadable)}"
        why = "no look at it was made" if evidence.connected else away
        return Verdict(VerdictAnswer.NOT_SAFE, (Reason(kind, why),), accepted=evidence.accepted)
    scan = evidence.scan
    reasons = tuple(
        chain(
            _unread(scan),
            _roots(evidence, scan),
            obstacles(evidence, scan.plan),
            _company(evidence),
            _motion(evidence, scan),
            _unknown_losses(evidence),
            _unfinished(evidence, scan),
        )
    )
    beside = () if evidence.circumstances is None else losses_beside(evidence.circumstances)
    through = evidence.through
    # Files outside the trees are on the host itself, whatever volume the trees are on; so are the targets of links.
    shared = [loss for loss in evidence.losses if through and loss.kind is not LossKind.LINKS]
    losses = (*(loss for loss in evidence.losses if loss not in shared), *beside)
    survives = tuple(Survival(loss, through) for loss in shared) if through else ()
    answer = VerdictAnswer.NOT_SAFE if reasons else VerdictAnswer.SAFE_EXCEPT if losses else VerdictAnswer.SAFE
    return Verdict(answer, reasons, losses, survives, evidence.accepted)


def _unread(scan: ScanEvidence) -> Iterator[Reason]:
    """Yield a reason for the parts of the trees that can't be scanned."""
    denied = [str(each.tree) for each in scan.listings if each.state is TreeState.DENIED]
    unlisted = (f"{each.tree}/{path}" for each in scan.listings for path in each.unreadable)
    shut = [place for place in unlisted if place not in scan.waived]
    if denied or shut:
        places = denied + shut
        what = places[0] if len(places) == 1 else f"{len(places)} directories, such as {places[0]},"
        yield Reason(ReasonKind.NOT_LOOKED_AT, f"{what} may not be listed on the box")
    if scan.rejected:
        yield Reason(ReasonKind.NOT_LOOKED_AT, f"{scan.rejected} names on it can't be used")


def _roots(evidence: Evidence, scan: ScanEvidence) -> Iterator[Reason]:
    if not evidence.roots:
        yield Reason(ReasonKind.ROOT_MISSING, "no root is configured")
    for root in evidence.roots:
        listings = [each for each in scan.listings if each.tree.root == root]
        if not listings or any(each.state is TreeState.NO_ROOT for each in listings):
            yield Reason(ReasonKind.ROOT_MISSING, f"{root} is not there")
            continue
        for each in listings:
            if each.state is TreeState.BROKEN_LINK:
                yield Reason(ReasonKind.ROOT_MISSING, f"{each.tree} is a link that leads to no directory")
        if not any(_shows_anything(each) for each in listings):
            yield Reason(ReasonKind.ROOT_EMPTY, f"{root} shows nothing: not mounted, or fresh")
        else:
            yield from _devices(evidence, root, listings)
    if not evidence.seen:
        yield Reason(ReasonKind.NOTHING_SEEN, "no run and no eval was ever seen on it")


def _shows_anything(listing: Listing) -> bool:
    if listing.state in {TreeState.DENIED, TreeState.TWIN} or listing.unreadable:
        return True
    return any(entry.type is not EntryType.DIRECTORY for entry in listing.entries.values())


def _devices(evidence: Evidence, root: str, listings: list[Listing]) -> Iterator[Reason]:
    """Yield reasons where a tree's device differs from the one recorded when something was first seen in it."""
    now = {str(each.tree): each.device for each in listings if each.state is TreeState.PRESENT}
    twins = {str(each.tree) for each in listings if each.state is TreeState.TWIN}
    if evidence.circumstances is not None:
        now[root] = evidence.circumstances.devices.get(root, 0)
    known = {place: device for place, device in evidence.devices.items() if place.startswith(f"{root.rstrip('/')}/")}
    for listing in listings:
        place = str(listing.tree)
        # A tree without a recorded device never showed a run or an eval: it must then be on its root's device.
        is_known = listing.device and (place in known or evidence.devices.get(root) == listing.device)
        if listing.state is TreeState.PRESENT and _shows_anything(listing) and not is_known:
            yield Reason(ReasonKind.ROOT_CHANGED, f"the file system of {place} is not known{_CONFIRM}")
    if evidence.circumstances is not None and root in evidence.devices:
        known[root] = evidence.devices[root]
    for place, device in sorted(known.items()):
        if place in twins:
            continue
        found = now.get(place, 0)
        if found not in {0, device}:
            yield Reason(
                ReasonKind.ROOT_CHANGED, f"another file system than before is at {place}, by its number{_CONFIRM}"
            )
        elif not found and place != root:
            yield Reason(ReasonKind.ROOT_CHANGED, f"{place} was there before, and is not now{_CONFIRM}")


def _company(evidence: Evidence) -> Iterator[Reason]:
    if evidence.transfers:
        yield Reason(ReasonKind.TRANSFERS, "harvestd is fetching from it")
    if evidence.circumstances is not None:
        yield from activity_on(evidence.circumstances)


def activity_on(found: Circumstances) -> Iterator[Reason]:
    """Yield a reason for each kind of activity on a host: GPU processes, log-ins, and file transfers."""
    # If nothing at all is known, `unclear` is the reason; otherwise it is about checkouts.
    unclear = found.unclear if found.transfers is None and found.outside is None else ""
    for kind, count, what, why in (
        (ReasonKind.GPU_BUSY, found.gpu_processes, "processes on its GPUs", found.gpus_unclear or unclear),
        (ReasonKind.LOGGED_IN, found.log_ins, "people logged in", unclear),
        (ReasonKind.TRANSFERS, found.transfers, "programs that carry files to or from it", unclear),
    ):
        if count is None:
            yield Reason(kind, f"it can't say whether there are {what}{_because(why)}")
        elif count:
            named = carriers_named(found) if kind is ReasonKind.TRANSFERS else ""
            yield Reason(kind, f"{count} {what}{_because(named)}")


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _accepting(kind: LossKind) -> str:
    return f'; verdict.accept_loss = ["{kind}"] accepts it unseen'


def _motion(evidence: Evidence, scan: ScanEvidence) -> Iterator[Reason]:
    network = any(is_network(each.filesystem) for each in scan.listings)
    needed = max(evidence.idle_for, NETWORK_SETTLE) if network else evidence.idle_for
    if not evidence.quiet >= needed:
        left = needed - evidence.quiet
        yield Reason(ReasonKind.NOT_QUIET, f"nothing has changed for {evidence.quiet:.0f} s only", seconds=left)


def _unknown_losses(evidence: Evidence) -> Iterator[Reason]:
    """Yield a reason for each kind of loss that can't be determined and that the operator does not accept."""
    found = evidence.circumstances
    if found is None:
        return
    if LossKind.OUTSIDE_FILES not in evidence.accepted and (found.outside is None or not found.outside.whole):
        why = found.unclear if found.outside is None else found.outside.missed
        what = "it can't say which files outside its roots changed lately"
        yield Reason(ReasonKind.LOSSES_UNKNOWN, f"{what}{_because(why)}{_accepting(LossKind.OUTSIDE_FILES)}")
    if LossKind.UNCOMMITTED_WORK not in evidence.accepted and found.checkouts is None:
        what = "it can't say whether its git checkouts hold work that is nowhere else"
        accepting = _accepting(LossKind.UNCOMMITTED_WORK)
        yield Reason(ReasonKind.LOSSES_UNKNOWN, f"{what}{_because(found.unclear)}{accepting}")


def _unfinished(evidence: Evidence, scan: ScanEvidence) -> Iterator[Reason]:
    """Yield a reason if the full scan for this verdict is missing or old; it is made once no other reason remains."""
    if not scan.whole or evidence.circumstances is None:
        yield Reason(ReasonKind.NOT_LOOKED_AT, "no full scan was made for this verdict", seconds=0.0)
    elif not scan.age <= FRESH:
        yield Reason(ReasonKind.NOT_LOOKED_AT, f"the last full scan is {scan.age:.0f} s old", seconds=0.0)
