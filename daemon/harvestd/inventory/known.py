"""The instances that are believed to exist, answer by answer. Pure: the same answers give the same set.

An answer adds and changes at once. It takes away only after several in a row agree, since a cloud that stumbles
answers with a part of the truth, and a box that is given up too early is read no more. What an answer leaves out of an
instance stays as it was known.
"""

from dataclasses import fields, replace

from harvestd.inventory.answers import Answer, Instance

AGREEING = 3
"""Answers in a row without an instance, after which it is gone."""
AGREEING_EMPTY = 10
"""Answers in a row without any, after which all are."""


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

    def take(self, answer: Answer) -> bool:
        """Take the next good answer; tells whether it is believed: an empty one after a full one is not at first."""
        named = {each.id: each for each in answer.instances}
        self._instances |= {key: _completed(new, self._instances.get(key)) for key, new in named.items()}
        self._absent = {key: count for key, count in self._absent.items() if key not in named}
        if not answer.whole:
            return True
        if not named and self._instances:
            self._empty += 1
            if self._empty < AGREEING_EMPTY:
                return False
            self._instances, self._absent = {}, {}
        self._empty = 0
        for key in set(self._instances) - set(named):
            self._absent[key] = self._absent.get(key, 0) + 1
            if self._absent[key] >= AGREEING:
                del self._instances[key], self._absent[key]
        return True


def _completed(new: Instance, old: Instance | None) -> Instance:
    if old is None:
        return new
    unknown = {each.name: getattr(old, each.name) for each in fields(new) if getattr(new, each.name) is None}
    return replace(new, **unknown)
