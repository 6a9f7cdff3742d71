"""The generated part of a README.md between a person's notes: found by its two comments, and only it is replaced.

The text before and after it is a person's and is kept byte for byte. To a README without a generated part, the part is
appended once, and replaced there from then on. A comment without its partner is treated as a note. A generated part
that a person removed is appended again with the next change of the experiment.
"""

import re
from typing import Final

from harvestd.convention.structs import Immutable

_END: Final = "<!-- harvestd ends -->"
_PART: Final = re.compile(
    rb"<!-- harvestd begins: facts (?P<facts>[0-9a-f-]+), pictures (?P<pictures>[0-9a-f-]+) -->"
    rb"(?:(?!<!-- harvestd begins).)*?" + re.escape(_END.encode()),
    re.DOTALL,
)


class Marks(Immutable):
    """Hashes of the generated part's inputs; it is up to date while they are the same."""

    facts: str = "-"
    """Of everything that is recorded."""
    pictures: str = "-"
    """Of the inputs of the pictures beside it."""


def marks_in(readme: bytes) -> Marks | None:
    """Return the marks of the generated part; None where there is none."""
    found = _found(readme)
    return Marks(found["facts"].decode(), found["pictures"].decode()) if found else None


def with_part(readme: bytes, marks: Marks, text: str) -> bytes:
    """Return `readme` with a new generated part.

    `text` ends in a line break and contains none of harvestd's comments.
    """
    part = f"<!-- harvestd begins: facts {marks.facts}, pictures {marks.pictures} -->\n{text}{_END}".encode()
    found = _found(readme)
    if found:
        return readme[: found.start()] + part + readme[found.end() :]
    if not readme:
        return part + b"\n"
    gap = b"\n" if readme.endswith(b"\n") else b"\n\n"
    return readme + gap + part + b"\n"


def _found(readme: bytes) -> re.Match[bytes] | None:
    """Return the last match: an earlier one may be a person's copy of it."""
    return max(_PART.finditer(readme), key=lambda match: match.start(), default=None)
