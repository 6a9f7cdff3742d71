"""The generated part of a README.md among a person's notes: found by its two comments, and replaced alone.

What stands before and after it is a person's and stays byte for byte. A README without a generated part is somebody's
own: the part is appended at its end, once, and replaced there from then on. A comment without its partner is taken for
a note. Who takes the generated part away gets it again at the end, with the next change of the experiment.
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
    """What the generated part was made from, as hashes; it is up to date while they are the same."""

    facts: str = "-"
    """Of everything that is on record."""
    pictures: str = "-"
    """Of what the pictures beside it were drawn from."""


def marks_in(readme: bytes) -> Marks | None:
    """Return the marks of the generated part; None where there is none."""
    found = _found(readme)
    return Marks(found["facts"].decode(), found["pictures"].decode()) if found else None


def with_part(readme: bytes, marks: Marks, text: str) -> bytes:
    """Return `readme` with the generated part made anew; `text` ends in a line break and holds no comment of ours."""
    part = f"<!-- harvestd begins: facts {marks.facts}, pictures {marks.pictures} -->\n{text}{_END}".encode()
    found = _found(readme)
    if found:
        return readme[: found.start()] + part + readme[found.end() :]
    if not readme:
        return part + b"\n"
    gap = b"\n" if readme.endswith(b"\n") else b"\n\n"
    return readme + gap + part + b"\n"


def _found(readme: bytes) -> re.Match[bytes] | None:
    """Find the last part: an earlier one may be a person's copy of it."""
    return max(_PART.finditer(readme), key=lambda match: match.start(), default=None)
