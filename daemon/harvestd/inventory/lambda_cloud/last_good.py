"""The known instances, updated answer by answer. Pure: the same answers give the same set.

An answer adds and changes instances at once. An instance is removed only after several answers in a row without it,
since a failing cloud returns incomplete lists, and a host that is given up too early is not read any more. Fields that
an answer omits keep their last value.
"""

from msgspec.structs import replace

from harvestd.inventory.lambda_cloud.instances import MOST_INSTANCES, Answer, Instance

AGREEING = 3
"""Answers in a row without an instance, after which it is gone."""
AGREEING_EMPTY = 10
"""Answers in a row without any instance, after which all are gone."""
MOST_KNOWN = 2 * MOST_INSTANCES
"""An upper bound, for a cloud that lists other instances each time."""


class KnownInstances:
    """Processes answers in their order."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._absent: dict[str, int] = {}
        """How many answers in a row have omitted an instance."""
        self._empty = 0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances that are assumed to exist."""
        return tuple(self._instances.values())

    def take(self, answer: Answer) -> str:
        """Process the next answer; return why it does not count as evidence of absence, "" where it counts."""
        named = {each.id: each for each in answer.instances}
        for key, new in named.items():
            if key in self._instances or len(self._instances) < MOST_KNOWN:
                self._instances[key] = _completed(new, self._instances.get(key))
        self._absent = {key: count for key, count in self._absent.items() if key not in named}
        if not answer.whole:
            return "a part of it can't be read"
        if not named and self._instances:
            self._empty += 1
            if self._empty < AGREEING_EMPTY:
                return "it is empty all at once, which is not believed before it was repeated"
            self._instances, self._absent = {}, {}
        self._empty = 0
        for key in set(self._instances) - set(named):
            self._absent[key] = self._absent.get(key, 0) + 1
            if self._absent[key] >= AGREEING:
                del self._instances[key], self._absent[key]
        return ""


def _completed(new: Instance, old: Instance | None) -> Instance:
    if old is None:
        return new
    unknown = {name: getattr(old, name) for name in new.__struct_fields__ if getattr(new, name) is None}
    return replace(new, **unknown)
