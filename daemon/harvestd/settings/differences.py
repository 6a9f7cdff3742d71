"""The differences between two configurations, by dotted key. Never by value: one may be a secret."""

from collections.abc import Iterator, Mapping

from harvestd.convention.structs import Immutable
from harvestd.settings.schema import HostSettings, Settings
from harvestd.settings.sections import Section

FIXED = ("data_root", "state_dir", "api")
"""Keys that are fixed for the life of a process: locks, open files and listeners can't move."""


class Differences(Immutable):
    """Added, removed and changed keys, as `hosts[gpu-a]` or `poll.interval`, in the order of the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def differences(old: Settings, new: Settings) -> Differences:
    """Return the differences; hosts are compared by name, whatever their order in the file."""
    before, after = _tables(old), _tables(new)
    return Differences(
        added=tuple(f"hosts[{name}]" for name in after if name not in before),
        removed=tuple(f"hosts[{name}]" for name in before if name not in after),
        changed=(*_changed_keys(old, new), *_changed_hosts(before, after)),
    )


def _tables(settings: Settings) -> Mapping[str, HostSettings]:
    return {table.name: table for table in settings.hosts}


def _changed_keys(old: Settings, new: Settings) -> Iterator[str]:
    for key in Settings.model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if key == "hosts" or before == after:
            continue
        if isinstance(before, Section):
            yield from (f"{key}.{each}" for each in _differing(before, after))
        else:
            yield key


def _changed_hosts(before: Mapping[str, HostSettings], after: Mapping[str, HostSettings]) -> Iterator[str]:
    for name in (name for name in before if name in after):
        was, now = before[name], after[name]
        # A key that was added or removed with its section's value differs, too: it overrides the section from now on.
        keys = {*_differing(was, now), *(was.model_fields_set ^ now.model_fields_set)}
        yield from (f"hosts[{name}].{key}" for key in HostSettings.model_fields if key in keys)


def _differing(before: Section, after: Section) -> Iterator[str]:
    return (key for key in type(before).model_fields if getattr(before, key) != getattr(after, key))
