"""Typed access to parsed JSON; an error contains the place of the invalid field.

Validation libraries are not used, since they reject the lone surrogates that represent names which are not UTF-8.
"""

from collections.abc import Iterable
from typing import cast

from harvestd.store.errors import Damaged


class Fields:
    """The fields of one JSON object. Each method raises `Damaged` for a field that is missing or of another type."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(f"{place} is not an object")
        self.place = place
        """The place of the object, for messages."""
        self._value = cast("dict[str, object]", value)  # keys of JSON are always strings

    def names(self) -> Iterable[str]:
        """Return the names of the fields, in their order."""
        return tuple(self._value)

    def text(self, name: str) -> str:
        """Return the text in the field `name`."""
        value = self._value.get(name)
        if not isinstance(value, str):
            raise Damaged(f"{self.place}: {name} is not a text")
        return value

    def text_or_empty(self, name: str) -> str:
        """Return the text in the field `name`; an empty text if there is no such field."""
        return self.text(name) if name in self._value else ""

    def truth_or_false(self, name: str) -> bool:
        """Return the boolean in the field `name`; False if there is no such field."""
        value = self._value.get(name, False)
        if not isinstance(value, bool):
            raise Damaged(f"{self.place}: {name} is neither true nor false")
        return value

    def integer(self, name: str) -> int:
        """Return the integer in the field `name`."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Damaged(f"{self.place}: {name} is not a whole number")
        return value

    def integer_or_null(self, name: str) -> int | None:
        """Return the integer in the field `name`; None for null or if there is no such field."""
        return None if self._value.get(name) is None else self.integer(name)

    def below(self, name: str) -> "Fields":
        """Return the object in the field `name`."""
        return Fields(self._value.get(name), f"{self.place}: {name}")

    def each(self, name: str) -> Iterable["Fields"]:
        """Return the objects of the list in the field `name`."""
        return [Fields(value, f"{self.place}: {name}[{index}]") for index, value in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the list of texts in the field `name`."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise Damaged(f"{self.place}: {name} is not a list of texts")
        return tuple(cast("list[str]", values))

    def _list(self, name: str) -> list[object]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise Damaged(f"{self.place}: {name} is not a list")
        return value
