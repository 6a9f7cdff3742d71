"""The quick JSON says and takes what Python's own module does."""

import json
import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from harvestd.json_text import indented_json, json_text, json_value

SURROGATES = st.characters(categories=["Cs"])
TEXTS = st.text(st.characters() | SURROGATES, max_size=10)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
ODD = st.sampled_from([b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"[" * 5000])
PIECES = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b".", b"e", b"-", b" ", b"\x00", b"\xff"]
)


@given(VALUES)
def test_what_is_written_is_what_was_meant(value: object) -> None:
    """In one line of ASCII."""
    text = json_text(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert json.loads(indented_json(value)) == value
    assert indented_json(value).isascii()


def outcome(read: Callable[[bytes], object], content: bytes) -> str:
    """Return what a reader makes of `content`; texts, for NaN is not even itself."""
    try:
        return repr(read(content))
    except ValueError:
        return "no JSON"
    except RecursionError:
        return "too deep"


@given(VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20) | ODD, st.data())
def test_what_is_read_is_what_python_reads(content: bytes, data: st.DataObject) -> None:
    """Whole, cut short, and with something in its midst: no content passes here that would not pass there."""
    at = data.draw(st.integers(0, len(content)))
    for text in (content, content[:at], content[:at] + data.draw(PIECES) + content[at:]):
        assert outcome(json_value, text) == outcome(json.loads, text)


@given(st.sampled_from([math.nan, math.inf, -math.inf]), VALUES)
def test_a_float_that_is_no_number_is_written_as_null(odd: float, value: object) -> None:
    """Whatever stands beside it, and in both forms: no reader is given a text that is no JSON."""
    for written in (json_text, indented_json):
        assert json.loads(written([odd, {"a": odd}, (odd,), value]), parse_constant=fail) == [
            *(None, {"a": None}, [None]),
            value,
        ]


def fail(constant: str) -> object:
    """Refuse a constant that JSON does not have."""
    raise AssertionError(constant)
