"""The instances that are believed to exist, answer by answer. Pure: the same answers give the same set.

An answer adds and changes at once. It takes away only after several in a row agree, since a cloud that stumbles
answers with a part of the truth, and a box that is given up too early is read no more. What an answer leaves out of an
instance stays as it was known.
"""

from msgspec.structs import replace

from harvestd.inventory.lambda_cloud.instances import MOST_INSTANCES, Answer, Instance

AGREEING = 3
"""Answers in a row without an instance, after which it is gone."""
AGREEING_EMPTY = 10
"""Answers in a row without any, after which all are."""
MOST_KNOWN = 2 * MOST_INSTANCES
"""A cloud that names others each time is not followed beyond."""


class KnownInstances:
    """Takes answers in their order."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._absent: dict[str, int] = {}
        """How many answers in a row were without an instance."""
        self._empty = 0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that are believed to exist."""
        return tuple(self._instances.values())

    def take(self, answer: Answer) -> str:
        """Take the next answer; gives why nobody is taken for gone by it, "" where it counts."""
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
