"""Make text safe: escape that of hosts, and remove secrets.

Make text from a host safe for a terminal, a log line or a table. Only this module decides which
characters are dangerous to display: those that move a cursor, end a line, change the reading direction or can't be
encoded. All others, in any script, are kept.

The last protection for secrets: text that looks like one is removed from everything that is logged. No code relies on
this alone: secrets are `SecretStr`, files of a run are never quoted, and a value of a configuration is not repeated.
But a host's start files may print an exported token, a tool may put a notebook's URL into an error, and a traceback
may hold anything. Only known forms are found: a secret of no known form passes.
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


HIDDEN: Final = "[hidden]"

_HINTS: Final = (
    *("=", ":", "earer", "-----", "%3"),
    *("hf_", "sk-", "ghp_", "gho_", "github_pat_", "wandb_v1_", "AKIA", "secret_", "xox"),
)
"""Each text with a match of a pattern below contains one of these; nearly all texts contain none."""

_KEY: Final = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
_FORMS: Final = (
    # A telling name, and its value: token=…, "api_key": "…", WANDB_API_KEY='…', ?token=… of a notebook. After a colon
    # and a space there may be prose: there only a text with a digit is taken for a value.
    r"(?P<name>(?i:token|secret|passw(?:or)?d|passphrase|credential|api[_-]?key|access[_-]?key|private[_-]?key|netrc)"
    r"\\?[\"']?\s*(?:=>|=|:(?=\s*[^\s:]*[0-9])|%3[Dd])\s*(?:\\?[\"']|%22)?)(?!//|\[hidden\])[^\s\"'&,;<>)}\]\\]{4,}"
    r"|(?P<header>(?i:\bbearer|authorization:\s*\w+)\s+)[A-Za-z0-9._~+/=-]{6,}"
    # user:password@ of a URL; the address behind it stays.
    r"|(?P<url>://[^\s/@:\"']*:)[^\s/@\"']+(?=@)"
    # Prefixes that were chosen by their issuers to be found.
    r"|\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[op]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"
    r"|wandb_v1_[A-Za-z0-9_]{16,}|AKIA[A-Z0-9]{12,}|secret_[A-Za-z0-9_.-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,})"
)


def masked(text: str) -> str:
    """Return `text` without what looks like a secret; its name stays, to show what was removed.

    Masking twice changes nothing more. A secret may span lines: mask a text before it is cut or split.
    """
    # Called for each field of each event.
    for hint in _HINTS:
        if hint in text:
            return _compiled(_FORMS).sub(_hidden, _compiled(_KEY).sub(HIDDEN, text))
    return text


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # Takes some milliseconds, and few commands have a text that needs it.
    return re.compile(pattern)


def _hidden(found: re.Match[str]) -> str:
    kept = found["name"] or found["header"] or found["url"] or ""
    return kept + HIDDEN
