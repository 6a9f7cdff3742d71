"""Decode the JSON documents of the probe: facts and circumstances, field by field."""

from collections.abc import Mapping, Sequence
from typing import cast

from harvestd.convention.paths import encoded
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.json_text import json_value
from harvestd.safety.inputs import Carrier, CarrierState, Checkout, Circumstances, Outside
from harvestd.telemetry.sanitize import masked

MOST = 2**63 - 1
"""The largest number of a file system, and of the catalogue."""
MOST_TEXT = 4096


class BrokenAnswer(ValueError):
    """An answer that no honest program gives."""


def object_in(payload: bytes) -> Mapping[str, object]:
    """Return a frame's payload as a JSON object."""
    try:
        value = json_value(payload)
    except (ValueError, RecursionError) as e:
        raise BrokenAnswer("an answer that is no JSON") from e
    if not isinstance(value, dict):
        raise BrokenAnswer("an answer that is no JSON object")
    return cast("dict[str, object]", value)


def integer(value: object, *, least: int = 0, most: int = MOST) -> int:
    """Return a number from `least` to `most`."""
    # A bool is an int in Python, but not in the protocol.
    if type(value) is not int or not least <= value <= most:
        raise BrokenAnswer("a number that is none, or out of range")
    return value


def text(value: object, most: int = MOST_TEXT) -> str:
    """Return a text of `most` characters at most, unchanged."""
    if not isinstance(value, str) or len(value) > most:
        raise BrokenAnswer("a text that is none, or too long")
    return value


def line_of_text(value: object, most: int) -> str:
    """Return a short text for people, without control characters and without what looks like a secret."""
    return "".join(c if c.isprintable() else "?" for c in masked(text(value, most)))


def link_target(value: object) -> str:
    """Return a link's target: any text that a file system can hold."""
    target = text(value)
    try:
        raw = encoded(target)
    except UnicodeEncodeError as e:
        raise BrokenAnswer("a link's target that no file system can hold") from e
    if not raw or b"\0" in raw:
        raise BrokenAnswer("a link's target that no file system can hold")
    return target


def items(value: object) -> list[object]:
    """Return a list."""
    if not isinstance(value, list):
        raise BrokenAnswer("a list that is none")
    return value


_MOST_NEWEST = 20
_MOST_CHECKOUTS = 50
_MOST_CARRIERS = 32
_LONGEST_NAME = 256
_LONGEST_PROGRAM = 64
_LONGEST_WHY = 2048
_MOST_PID = 2**22


def circumstances(payload: bytes, number: int, roots: Sequence[str]) -> Circumstances:
    """Return the answer to request `number` about `roots`; raise `BrokenAnswer`."""
    document = object_in(payload)
    if integer(document.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    devices = items(document.get("devices"))
    if len(devices) != len(roots):
        raise BrokenAnswer("other roots than were asked for")
    transfers = _count(document.get("transfers"))
    return Circumstances(
        machine=line_of_text(document.get("machine"), _LONGEST_NAME),
        hostname=line_of_text(document.get("host"), _LONGEST_NAME),
        gpu_processes=_count(document.get("processes")),
        log_ins=_count(document.get("log_ins")),
        transfers=transfers,
        carriers=_carriers(document.get("carriers", []), transfers),
        devices={
            root: integer(device, most=2**64) for root, device in zip(roots, devices, strict=True) if device is not None
        },
        outside=_outside(document.get("outside")),
        checkouts=_checkouts(document.get("checkouts")),
        unclear=line_of_text(document.get("unclear", ""), _LONGEST_WHY),
        gpus_unclear=line_of_text(document.get("gpus_unclear", ""), _LONGEST_WHY),
    )


def link_targets(payload: bytes, number: int, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
    """Return the answer to request `number` about these links; raise `BrokenAnswer`."""
    document = object_in(payload)
    if integer(document.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    rows = items(document.get("links"))
    if len(rows) != len(links):
        raise BrokenAnswer("other links than were asked for")
    hangs = line_of_text(document.get("hangs", ""), _LONGEST_WHY)
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
            unclear = line_of_text(why, _LONGEST_WHY)
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
    return Outside(integer(files), integer(size), places, whole, line_of_text(rest.get("missed", ""), _LONGEST_WHY))


def _carriers(value: object, count: int | None) -> tuple[Carrier, ...]:
    rows = items(value)
    if len(rows) > min(_MOST_CARRIERS, count or 0):
        raise BrokenAnswer("more programs that carry files than there are")
    return tuple(_carrier(row) for row in rows)


def _carrier(row: object) -> Carrier:
    match row:
        case [program, pid, str(state)] if state in set(CarrierState):
            return Carrier(line_of_text(program, _LONGEST_PROGRAM), integer(pid, most=_MOST_PID), CarrierState(state))
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
