"""A verdict as a document: whatever was found out comes back as it was, names that are no text included."""

import json

from hypothesis import given
from hypothesis import strategies as st

from harvestd.convention.kinds import LossKind
from harvestd.safety.verdict import (
    Loss,
    Reason,
    ReasonKind,
    Survival,
    Verdict,
    VerdictAnswer,
    document_of,
    text_of,
    verdict_of,
    verdict_of_text,
)

names = st.text() | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
sizes = st.none() | st.integers(min_value=0)
losses = st.builds(Loss, st.sampled_from(LossKind), names, sizes, st.integers(min_value=0))
reasons = st.builds(
    Reason, st.sampled_from(ReasonKind), names, sizes, st.none() | st.floats(min_value=0, max_value=1e9)
)
verdicts = st.builds(
    Verdict,
    st.sampled_from(VerdictAnswer),
    st.lists(reasons, max_size=4).map(tuple),
    st.lists(losses, max_size=4).map(tuple),
    st.lists(st.builds(Survival, losses, names), max_size=3).map(tuple),
    st.frozensets(st.sampled_from(LossKind)),
)


@given(verdict=verdicts)
def test_every_verdict_comes_back(verdict: Verdict) -> None:
    """Document and text give the same verdict again; the text is ASCII, and what it says of itself agrees."""
    assert verdict_of(document_of(verdict)) == verdict
    text = text_of(verdict)
    assert text.isascii()
    assert verdict_of_text(text) == verdict
    document = json.loads(text)
    assert document["safe"] is verdict.is_safe
    assert document["bytes_outstanding"] == sum(reason.size or 0 for reason in verdict.reasons)
    assert (document["seconds_left"] is None) == any(reason.seconds is None for reason in verdict.reasons)
