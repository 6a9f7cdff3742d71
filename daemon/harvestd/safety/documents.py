"""A verdict as a JSON document, and back: alike in `--json`, in the catalogue, in events and over HTTP. Pure.

`verdict_of(document_of(verdict)) == verdict` for every verdict. Texts stand as they came: who shows them escapes them.
"""

import json
from collections.abc import Mapping
from typing import Any

from harvestd.convention.kinds import LossKind
from harvestd.safety.verdict import Answer, Loss, Reason, ReasonKind, Survival, Verdict


def document_of(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON document; sizes in bytes, times in seconds, null where nobody knows.

    `safe`, `bytes_outstanding` and `seconds_left` follow from the rest, and stand there for who reads it.
    """
    return {
        "answer": verdict.answer.value,
        "safe": verdict.is_safe,
        "reasons": [
            {"kind": each.kind.value, "detail": each.detail, "bytes": each.size, "seconds": each.seconds}
            for each in verdict.reasons
        ],
        "losses": [_loss_document(each) for each in verdict.losses],
        "survives": [_loss_document(each.loss) | {"through": each.through} for each in verdict.survives],
        "accepted": sorted(each.value for each in verdict.accepted),
        "bytes_outstanding": verdict.outstanding,
        "seconds_left": None if verdict.left is None else verdict.left.total_seconds(),
    }


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """Read such a document; raises `KeyError`, `TypeError` or `ValueError` where it is none."""
    return Verdict(
        Answer(document["answer"]),
        reasons=tuple(
            Reason(ReasonKind(each["kind"]), each["detail"], each["bytes"], each["seconds"])
            for each in document["reasons"]
        ),
        losses=tuple(_loss_of(each) for each in document["losses"]),
        survives=tuple(Survival(_loss_of(each), each["through"]) for each in document["survives"]),
        accepted=frozenset(LossKind(each) for each in document["accepted"]),
    )


def text_of(verdict: Verdict) -> str:
    """Return the document as text in ASCII, names that are no UTF-8 included; raises `ValueError` for endless times."""
    return json.dumps(document_of(verdict), allow_nan=False)


def verdict_of_text(text: str) -> Verdict:
    """Read such a text; raises as `verdict_of`."""
    return verdict_of(json.loads(text))


def _loss_document(loss: Loss) -> dict[str, Any]:
    return {"kind": loss.kind.value, "what": loss.what, "bytes": loss.size, "entries": loss.entries}


def _loss_of(document: Mapping[str, Any]) -> Loss:
    return Loss(LossKind(document["kind"]), document["what"], document["bytes"], document["entries"])
