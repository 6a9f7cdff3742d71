"""Secrets that a test plants, each different, and the search for them in everything that harvestd told or wrote."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path


class Planted:
    """Makes secrets by the name of the place where they are put, and finds them again."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._told: dict[str, bytes] = {}

    def new(self, place: str, form: str = "{}") -> str:
        """Return a new secret for `place`; `form` holds {} where its bytes of chance go."""
        self.values[place] = secrets.token_hex(12)
        return form.format(self.values[place])

    def key(self, place: str, path: Path) -> None:
        """Count the body of a private key's file as secrets, line by line."""
        for number, line in enumerate(path.read_text().splitlines()):
            if not line.startswith("-----"):
                self.values[f"{place}, line {number}"] = line

    def hear(self, where: str, told: str | bytes) -> None:
        """Take what was told for the search."""
        self._told[where] = self._told.get(where, b"") + (told.encode() if isinstance(told, str) else told)

    def walk(self, directory: Path) -> None:
        """Take every file's name and content below `directory` for the search."""
        for path in directory.rglob("*"):
            where = str(path.relative_to(directory))
            self.hear("the names of files", where + "\n")
            if path.is_file() and not path.is_symlink():
                self.hear(where, path.read_bytes())

    def heard(self, text: str) -> list[str]:
        """Return where a text was told."""
        return [where for where, told in self._told.items() if text.encode() in told]

    def leaks(self, allowed: Mapping[str, Iterable[str]]) -> list[str]:
        """Return which secrets are where they must not be; `allowed` are the places that are what holds the secret."""
        return [
            f"{place} in {where}"
            for place, value in self.values.items()
            for where in self.heard(value)
            if where not in allowed.get(place, ())
        ]
