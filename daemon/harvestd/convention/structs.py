"""Values: small immutable objects that are made by the hundred thousand."""

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TypeVar, dataclass_transform

from msgspec import Struct, field

ValueT = TypeVar("ValueT")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Immutable(Struct, frozen=True):
    """What a class of values is made from: compared, hashed and shown by its fields, which nobody assigns to.

    A frozen dataclass would do the same at several times the cost of each object, and at twenty times that of each
    class, of which a command imports a hundred. A class of pure data whose values are that many says `gc=False`: the
    collector of cycles need not look at what can be part of none.
    """


@dataclass_transform(frozen_default=True, field_specifiers=(dataclass_field,))
def value(cls: type[ValueT]) -> type[ValueT]:
    """Make a class of values with a field that is computed, or that does not count when two are compared.

    As `dataclass(frozen=True, slots=True)`, but that only the type checker, in CI, holds it frozen: to hold it so at
    run time makes each object five times as dear to make.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
