"""Decode a probe's answers for a verdict: every number, place and list is checked and bounded. Pure."""

from collections.abc import Mapping, Sequence

from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.remote.probe.decode_fields import BrokenAnswer, integer, items, link_target, object_in, words
from harvestd.safety.circumstances import Carrier, CarrierState, Checkout, Circumstances, Outside

_MOST_NEWEST = 20
_MOST_CHECKOUTS = 50
_MOST_CARRIERS = 32
_LONGEST_NAME = 256
_LONGEST_PROGRAM = 64
_LONGEST_WHY = 2048
_MOST_PID = 2**22


def circumstances(payload: bytes, number: int, roots: Sequence[str]) -> Circumstances:
    """Return the answer to request `number` about `roots`; raise `BrokenAnswer`."""
    told = object_in(payload)
    if integer(told.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    devices = items(told.get("devices"))
    if len(devices) != len(roots):
        raise BrokenAnswer("other roots than were asked for")
    transfers = _count(told.get("transfers"))
    return Circumstances(
        machine=words(told.get("machine"), _LONGEST_NAME),
        hostname=words(told.get("host"), _LONGEST_NAME),
        gpu_processes=_count(told.get("processes")),
        log_ins=_count(told.get("log_ins")),
        transfers=transfers,
        carriers=_carriers(told.get("carriers", []), transfers),
        devices={
            root: integer(device, most=2**64) for root, device in zip(roots, devices, strict=True) if device is not None
        },
        outside=_outside(told.get("outside")),
        checkouts=_checkouts(told.get("checkouts")),
        unclear=words(told.get("unclear", ""), _LONGEST_WHY),
        gpus_unclear=words(told.get("gpus_unclear", ""), _LONGEST_WHY),
    )


def link_targets(payload: bytes, number: int, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
    """Return the answer to request `number` about these links; raise `BrokenAnswer`."""
    told = object_in(payload)
    if integer(told.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    rows = items(told.get("links"))
    if len(rows) != len(links):
        raise BrokenAnswer("other links than were asked for")
    hangs = words(told.get("hangs", ""), _LONGEST_WHY)
    found = {link.place: _link_target(row) for link, row in zip(links, rows, strict=True) if row is not None}
    if not hangs:
        return found
    unknown = {link.place: LinkTarget(link.target, link.target, unclear=hangs) for link in links}
    return {**unknown, **found}


def _link_target(row: object) -> LinkTarget:
    match row:
        case [written, real, bool(there), size, bool(watched), why]:
            found = integer(size, least=-1)
            known = found if found >= 0 else None
            unclear = words(why, _LONGEST_WHY)
            return LinkTarget(link_target(written), _place(real), there, known, watched, unclear)
        case _:
            raise BrokenAnswer("a link of another shape")


def _count(value: object) -> int | None:
    return None if value is None else integer(value)


def _outside(value: object) -> Outside | None:
    if value is None:
        return None
    match value:
        case {"files": files, "size": size, "newest": newest, "whole": bool(whole), **rest}:
            places = tuple(_place(each) for each in items(newest))
        case _:
            raise BrokenAnswer("files outside the trees of another shape")
    if not len(places) <= min(_MOST_NEWEST, integer(files)):
        raise BrokenAnswer("more of the newest files than there are")
    return Outside(integer(files), integer(size), places, whole, words(rest.get("missed", ""), _LONGEST_WHY))


def _carriers(value: object, count: int | None) -> tuple[Carrier, ...]:
    rows = items(value)
    if len(rows) > min(_MOST_CARRIERS, count or 0):
        raise BrokenAnswer("more programs that carry files than there are")
    return tuple(_carrier(row) for row in rows)


def _carrier(row: object) -> Carrier:
    match row:
        case [program, pid, str(state)] if state in set(CarrierState):
            return Carrier(words(program, _LONGEST_PROGRAM), integer(pid, most=_MOST_PID), CarrierState(state))
        case _:
            raise BrokenAnswer("a program of another shape")


def _checkouts(value: object) -> tuple[Checkout, ...] | None:
    if value is None:
        return None
    rows = items(value)
    if len(rows) > _MOST_CHECKOUTS:
        raise BrokenAnswer("more checkouts than are ever told")
    return tuple(_checkout(row) for row in rows)


def _checkout(row: object) -> Checkout:
    match row:
        case [place, changed, unpushed]:
            checkout = Checkout(_place(place), integer(changed), integer(unpushed))
        case _:
            raise BrokenAnswer("a checkout of another shape")
    if not checkout.changed and not checkout.unpushed:
        raise BrokenAnswer("a checkout in which nothing is at stake")
    return checkout


def _place(value: object) -> str:
    """Return an absolute path, which is only displayed: it is never opened."""
    place = link_target(value)
    if not place.startswith("/"):
        raise BrokenAnswer("a place that is no absolute path")
    return place
