"""What a verdict says now, some time after it was made. Pure: the caller measures its age.

A verdict is a proof for the moment at which it was made. One that no daemon has renewed proves nothing about now, and
what is not known is not safe. Every form in which a verdict is shown (a table, `--json`, HTTP, a metric) comes through
here, so that none of them shows an old *safe* as a present one.
"""

from typing import Any, Final

from msgspec.structs import replace

from harvestd.safety.documents import document_of
from harvestd.safety.verdict import Answer, Reason, ReasonKind, Verdict

FRESH_FOR: Final = 900.0
"""Seconds for which a verdict counts as one about now, while a daemon watches its host: it is renewed within 600."""


def is_fresh(age: float, *, watched: bool) -> bool:
    """Return whether a verdict of this age (seconds) is about now; `watched`: a daemon renews it."""
    return watched and age <= FRESH_FOR


def verdict_now(verdict: Verdict, age: float, *, watched: bool) -> Verdict:
    """Return what `verdict` says now: itself while it is fresh, else *not safe* with its age as the first reason."""
    if is_fresh(age, watched=watched):
        return verdict
    why = "no daemon has renewed it since" if not watched else "it was not renewed since"
    detail = f"the newest verdict ({_words(verdict.answer)}) is {age:.0f} s old, and {why}"
    outdated = Reason(ReasonKind.NOT_LOOKED_AT, detail)
    return replace(verdict, answer=Answer.NOT_SAFE, reasons=(outdated, *verdict.reasons))


def document_now(verdict: Verdict, age: float, *, watched: bool) -> dict[str, Any]:
    """Return what `verdict` says now as a JSON document: that of `document_of`, and three keys about its age.

    `fresh`; `age_seconds`; `answer_then`: the answer when it was made, which is `answer` while it is fresh.
    """
    return document_of(verdict_now(verdict, age, watched=watched)) | {
        "fresh": is_fresh(age, watched=watched),
        "age_seconds": round(age, 3),
        "answer_then": verdict.answer.value,
    }


def _words(answer: Answer) -> str:
    return answer.value.replace("_", " ")
