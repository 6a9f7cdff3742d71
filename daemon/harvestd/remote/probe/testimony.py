"""From a probe's answer to `Circumstances`: every number, place and list is checked, and all of it is bounded. Pure."""

from collections.abc import Sequence

from harvestd.remote.circumstances import Checkout, Circumstances, Outside
from harvestd.remote.probe.answer_parts import BrokenAnswer, integer, items, link_target, object_in, words

_MOST_NEWEST = 20
_MOST_CHECKOUTS = 50
_LONGEST_NAME = 256


def circumstances(payload: bytes, number: int, roots: Sequence[str]) -> Circumstances:
    """Read the answer to question `number`, in which `roots` were asked for; raises `BrokenAnswer`."""
    told = object_in(payload)
    if integer(told.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    devices = items(told.get("devices"))
    if len(devices) != len(roots):
        raise BrokenAnswer("other roots than were asked for")
    return Circumstances(
        machine=words(told.get("machine"), _LONGEST_NAME),
        hostname=words(told.get("host"), _LONGEST_NAME),
        gpu_processes=_count(told.get("processes")),
        log_ins=_count(told.get("log_ins")),
        transfers=_count(told.get("transfers")),
        devices={
            root: integer(device, most=2**64) for root, device in zip(roots, devices, strict=True) if device is not None
        },
        outside=_outside(told.get("outside")),
        checkouts=_checkouts(told.get("checkouts")),
    )


def _count(value: object) -> int | None:
    return None if value is None else integer(value)


def _outside(value: object) -> Outside | None:
    if value is None:
        return None
    match value:
        case {"files": files, "size": size, "newest": newest, "whole": bool(whole)}:
            places = tuple(_place(each) for each in items(newest))
        case _:
            raise BrokenAnswer("files outside the trees of another shape")
    if not len(places) <= min(_MOST_NEWEST, integer(files)):
        raise BrokenAnswer("more of the newest files than there are")
    return Outside(integer(files), integer(size), places, whole)


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
    """Take an absolute path, which is only ever shown: nothing is opened by it."""
    place = link_target(value)
    if not place.startswith("/"):
        raise BrokenAnswer("a place that is no absolute path")
    return place
