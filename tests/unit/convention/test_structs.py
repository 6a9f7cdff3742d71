"""What holds for every class of values, wherever it stands."""

import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import harvestd
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable


def classes() -> Iterator[type[Immutable]]:
    """Yield all of them."""
    for room in pkgutil.walk_packages(harvestd.__path__, "harvestd."):
        if not room.name.startswith(("harvestd.report.scripts", "harvestd.catalogue.migrations", "harvestd.__main__")):
            import_module(room.name)
    waiting = [Immutable]
    while waiting:
        found = waiting.pop().__subclasses__()
        yield from found
        waiting += found


def test_every_class_of_values_is_frozen_and_has_defaults_of_its_own_kind() -> None:
    """A default made by `dataclasses.field`, which the type checker takes, would be shared, and no default at all."""
    found = list(classes())
    assert len(found) > 150
    for each in found:
        assert each.__struct_config__.frozen
        assert not any(isinstance(default, dataclasses.Field) for default in each.__struct_defaults__)


def test_a_value_stays_what_it_is() -> None:
    """Nobody assigns to a field, also where no type checker looks; equal values are one key."""
    version = Version(1, 2, 3, 4)
    with pytest.raises(AttributeError):
        version.size = 5  # type: ignore[misc]  # the very thing that is refused
    assert {version: "here"}[Version(1, 2, 3, 4)] == "here"
