"""Make text from a host safe for a terminal, a log line or a table (promise I6).

Only this module decides which characters are dangerous to display: those that move a cursor, end a line, change the
reading direction or can't be encoded. All others, in any script, are kept.
"""

import re
from functools import cache
from typing import Final

_DANGEROUS: Final = (
    r"[\x00-\x1f\x7f-\x9f"  # C0 with ESC, DEL, C1 with CSI
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    r"\u2028\u2029"  # line and paragraph separators
    r"\ud800-\udfff]"  # lone surrogates: bytes of a name that are not UTF-8
)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_LAST_OF_ONE_BYTE = 0xFF


def escaped(text: str) -> str:
    r"""Return `text` with each dangerous character escaped, such as ESC as `\x1b`; always one line.

    Escaping twice changes nothing more. A backslash stays one, so the result is for people, not for decoding.
    """
    # Most texts are names without anything special; `isprintable` is false for every dangerous character.
    return text if text.isprintable() else _dangerous().sub(_written_out, text)


@cache
def _dangerous() -> re.Pattern[str]:
    # Takes a millisecond, and few commands have such a text.
    return re.compile(_DANGEROUS)


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= _LAST_OF_ONE_BYTE else f"\\u{code:04x}")
