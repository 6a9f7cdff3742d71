"""How what was asked for by hand stands on one host, gathered while its plan is made. Pure; decides nothing itself."""

from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from harvestd.convention.scan.model import Group, LeftOut, OnRequest
from harvestd.planning.plan import Asked
from harvestd.planning.requests import Request


class Asking:
    """Counts for each thing that was asked for and is not settled."""

    def __init__(self, requests: Iterable[Request]) -> None:
        """Begin with the open requests, for runs on whatever host."""
        wanted = {(each.run, each.thing) for each in requests if each.thing}
        self._found = {key: Asked(*key) for key in sorted(wanted)}

    def show(self, request: Request, *, refused: Collection[str] = ()) -> None:
        """Note that the host shows the run or an eval of it; `refused`: what it has nothing of, and why."""
        key = (request.run, request.thing)
        if key in self._found:
            found = self._found[key]
            self._found[key] = replace(found, shown=True, refused=(*found.refused, *refused))

    def count(self, request: Request, group: Group, outstanding: int, refused: Collection[str]) -> None:
        """Note how many files of a group, which belongs to what was asked for, are still to come."""
        self.show(request, refused=refused)
        key = (request.run, request.thing)
        if key in self._found:
            found = self._found[key]
            self._found[key] = replace(
                found,
                files=found.files + len(group.members),
                outstanding=found.outstanding + outstanding,
                size=found.size + group.size,
            )

    def collected(self) -> tuple[Asked, ...]:
        """Return all of them; on a host that shows nothing of a run, as not shown."""
        return tuple(self._found.values())


def by_hand(group: Group, request: Request) -> Group:
    """Return a group as it comes home because somebody asked for it."""
    return replace(group, members=tuple(replace(member, reason=request.reason) for member in group.members))


def still_left_out(lines: Iterable[LeftOut], taken: Iterable[OnRequest]) -> list[LeftOut]:
    """Return what is left out once `taken` comes home; a line that counted more than that goes on with the rest."""
    rest = list(lines)
    at: dict[str, list[int]] = {}
    for i, line in enumerate(rest):
        at.setdefault(line.place, []).append(i)
    for each in taken:
        above = (i for place in _self_and_parents(each.group.place) for i in at.get(place, ()))
        counted = min((i for i in above if rest[i].reason.startswith(each.reason)), default=None)
        if counted is not None:
            rest[counted] = _without(rest[counted], each.group)
    return [line for line in rest if line.entries > 0]


def _self_and_parents(place: str) -> Iterator[str]:
    while place:
        yield place
        place = place.rpartition("/")[0]


def _without(line: LeftOut, group: Group) -> LeftOut:
    size = None if line.size is None else max(0, line.size - group.size)
    return LeftOut(line.place, size, line.entries - len(group.members), line.reason)
