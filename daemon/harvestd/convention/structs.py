"""Base classes for values, and computations that can be interrupted."""

from collections.abc import Generator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TypeVar, dataclass_transform

from msgspec import Struct, field

ValueT = TypeVar("ValueT")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Immutable(Struct, frozen=True):
    """Base class of values: compared, hashed and shown by their fields, which must not be assigned to.

    A frozen dataclass does the same, but each object costs several times as much, and each class twenty times as much;
    a command imports a hundred of them. A class of pure data with very many values sets `gc=False`: its objects cannot
    be part of a cycle, so the garbage collector need not visit them.
    """


@dataclass_transform(frozen_default=True, field_specifiers=(dataclass_field,))
def value(cls: type[ValueT]) -> type[ValueT]:
    """Make a class of values with a field that is computed or that comparison ignores.

    Like `dataclass(frozen=True, slots=True)`, except that only the type checker in CI enforces immutability:
    enforcement at run time makes each object five times as expensive to create.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


T = TypeVar("T")
Steps = Generator[None, None, T]


def finished(steps: Steps[T]) -> T:
    """Return the result of a computation without interrupting it."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
