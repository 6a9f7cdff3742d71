"""Conversion between verdicts and JSON documents, which `--json`, the catalogue, events and HTTP share. Pure.

`verdict_of(document_of(verdict)) == verdict` for every verdict. Texts are not escaped: whatever displays them does
that.
"""

import json
from collections.abc import Mapping
from typing import Any

from harvestd.convention.kinds import LossKind
from harvestd.safety.verdict import Answer, Loss, Reason, ReasonKind, Survival, Verdict


def document_of(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON document; sizes in bytes, times in seconds, null for unknown values.

    `safe`, `bytes_outstanding` and `seconds_left` are derived from the rest, for the reader's convenience.
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
    """Return the verdict in a document; raise `KeyError`, `TypeError` or `ValueError` if it is invalid."""
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
    """Return the document as ASCII text, also for names that are not UTF-8; raise `ValueError` for infinite times."""
    return json.dumps(document_of(verdict), allow_nan=False)


def verdict_of_text(text: str) -> Verdict:
    """Return the verdict in such a text; raise errors as `verdict_of` does."""
    return verdict_of(json.loads(text))


def _loss_document(loss: Loss) -> dict[str, Any]:
    return {"kind": loss.kind.value, "what": loss.what, "bytes": loss.size, "entries": loss.entries}


def _loss_of(document: Mapping[str, Any]) -> Loss:
    return Loss(LossKind(document["kind"]), document["what"], document["bytes"], document["entries"])
