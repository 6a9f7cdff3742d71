"""Converts a verdict made earlier to one that is valid now. Pure: the caller measures its age.

A verdict is a proof for the time at which it was made. Unless a daemon renews it, it proves nothing about the present,
and what is unknown is not safe. Every output of a verdict (table, `--json`, HTTP, metric) uses this module, so that
none shows an old *safe* as a present one.
"""

from typing import Any, Final

from msgspec.structs import replace

from harvestd.safety.documents import document_of
from harvestd.safety.verdict import Answer, Reason, ReasonKind, Verdict

FRESH_FOR: Final = 900.0
"""Seconds for which a verdict counts as present while a daemon watches its host: it is renewed within 600."""


def is_fresh(age: float, *, watched: bool) -> bool:
    """Return whether a verdict of this age (seconds) counts as present; `watched`: a daemon renews it."""
    return watched and age <= FRESH_FOR


def verdict_now(verdict: Verdict, age: float, *, watched: bool) -> Verdict:
    """Return the present verdict: `verdict` itself while fresh, else *not safe* with its age as the first reason."""
    if is_fresh(age, watched=watched):
        return verdict
    why = "no daemon has renewed it since" if not watched else "it was not renewed since"
    detail = f"the newest verdict ({_words(verdict.answer)}) is {age:.0f} s old, and {why}"
    outdated = Reason(ReasonKind.NOT_LOOKED_AT, detail)
    return replace(verdict, answer=Answer.NOT_SAFE, reasons=(outdated, *verdict.reasons))


def document_now(verdict: Verdict, age: float, *, watched: bool) -> dict[str, Any]:
    """Return the present verdict as a JSON document: that of `document_of`, with three keys about its age.

    They are `fresh`, `age_seconds`, and `answer_then`: the answer when it was made, equal to `answer` while it is
    fresh.
    """
    return document_of(verdict_now(verdict, age, watched=watched)) | {
        "fresh": is_fresh(age, watched=watched),
        "age_seconds": round(age, 3),
        "answer_then": verdict.answer.value,
    }


def _words(answer: Answer) -> str:
    return answer.value.replace("_", " ")
