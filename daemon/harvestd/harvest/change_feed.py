"""Which experiments changed, and when what is made from them (manifests, reports, indexes) is made again."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass
class ChangeFeed:
    """The experiments that changed since each of the three services looked last."""

    manifests: set[str | None] = field(default_factory=set)
    """Those whose manifest is behind the catalogue; None means `_unfiled`, which has a manifest too."""
    reports: set[str] = field(default_factory=set)
    """Those that changed since their report was last checked."""
    logs: set[str] = field(default_factory=set)
    """Those that changed since the index of their log was last checked."""

    def touch(self, experiments: Iterable[str | None]) -> None:
        """Mark experiments as changed; None means `_unfiled`."""
        changed = set(experiments)
        self.manifests |= changed
        known = {each for each in changed if each is not None}
        self.reports |= known
        self.logs |= known


class Debouncer(Generic[KeyT]):
    """Delays work on what keeps changing. All times are monotonic seconds.

    A key is due `quiet` seconds after its last change, or `every` seconds after the first one that was not worked on,
    but not earlier than `every` seconds after it was worked on.
    """

    def __init__(self, quiet: float, every: float) -> None:
        self._quiet = quiet
        self._every = every
        self._changed: dict[KeyT, tuple[float, float]] = {}
        """When each changed key changed first, and last."""
        self._not_before: dict[KeyT, float] = {}

    def __bool__(self) -> bool:
        """Return whether any key waits."""
        return bool(self._changed)

    def __contains__(self, key: KeyT) -> bool:
        """Return whether `key` waits."""
        return key in self._changed

    def note(self, changed: set[KeyT], now: float) -> None:
        """Take over the keys of `changed`, which is empty afterwards."""
        for key in changed:
            first, _ = self._changed.get(key, (now, now))
            self._changed[key] = first, now
        changed.clear()

    def waiting(self) -> list[KeyT]:
        """Return all keys that wait, due or not."""
        return list(self._changed)

    def due(self, now: float) -> list[KeyT]:
        """Return the keys that are due."""
        return [
            key
            for key, (first, last) in self._changed.items()
            if (now - last >= self._quiet or now - first >= self._every) and now >= self._not_before.get(key, now)
        ]

    def begin(self, key: KeyT) -> None:
        """Remove `key`, since work on it begins: a change from here on makes it wait again."""
        self._changed.pop(key, None)

    def worked(self, key: KeyT, now: float) -> None:
        """Note that `key` was worked on, so that it is not due again at once."""
        self.postpone(key, now + self._every)

    def postpone(self, key: KeyT, until: float) -> None:
        """Make `key` due at `until` at the earliest."""
        self._not_before[key] = until
