"""Values: small immutable objects that are made by the hundred thousand."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

ValueT = TypeVar("ValueT")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[ValueT]) -> type[ValueT]:
    """Make a class of values: as `dataclass(frozen=True, slots=True)`, but that only the type checker holds it frozen.

    Holding it so at run time makes each object five times as dear to make, and a pass over thousands of files makes a
    dozen for each. Whoever assigns to a field of one is told by the type checker, in CI.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
