"""A cache of values parsed from files, each version of one read only once; several threads may use it at once."""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Memory(Generic[KeyT, ValueT]):
    """Keeps the values that were used last, up to a number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[KeyT, ValueT] = OrderedDict()
        self._lock = Lock()

    def get(self, key: KeyT) -> ValueT | None:
        """Return the value of a key; None where it is not cached."""
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key]

    def put(self, key: KeyT, value: ValueT) -> ValueT:
        """Store a value, and return it."""
        with self._lock:
            self._known[key] = value
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return value
