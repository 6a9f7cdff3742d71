"""Text from a box, made safe to look at."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.telemetry.sanitize import escaped

ANY_TEXT = st.text(st.characters())  # lone surrogates too
DIRECTIONS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name-1.csv", "plain name-1.csv"),
        ("", ""),
        ("Größe 模型 модель 🦆", "Größe 模型 модель 🦆"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\0\x7f\x9b31m", r"\x00\x7f\x9b31m"),
        ("run\u202egpj.exe", r"run\u202egpj.exe"),
        ("\u2066\u2069\u200e\u200f\u061c", r"\u2066\u2069\u200e\u200f\u061c"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("caf\udce9", r"caf\udce9"),
        (r"back\slash", r"back\slash"),
    ],
)
def test_dangerous_characters_are_written_out(text: str, expected: str) -> None:
    """What moves a cursor, ends a line or turns the direction is shown, not obeyed; any script stays readable."""
    assert escaped(text) == expected


@given(ANY_TEXT)
def test_what_was_escaped_is_one_safe_line(text: str) -> None:
    """Nothing dangerous is left, whatever came, and the answer can always be encoded."""
    safe = escaped(text)
    assert len(safe.splitlines()) <= 1
    safe.encode("utf-8")
    for character in safe:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in DIRECTIONS


@given(ANY_TEXT)
def test_escaping_twice_is_escaping_once(text: str) -> None:
    """A table may escape what a log has escaped already."""
    assert escaped(escaped(text)) == escaped(text)
