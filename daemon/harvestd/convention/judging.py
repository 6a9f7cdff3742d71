"""From evidence to a verdict on one box: may it be switched off? Pure.

It is never wrong in the direction that loses data: a box is safe by proofs, and what is not known is a reason against
it.
"""

from harvestd.convention.evidence import Evidence
from harvestd.convention.verdict import Answer, Reason, ReasonKind, Verdict


def judge(evidence: Evidence) -> Verdict:
    """Judge one box by what was found out about it now."""
    kind = ReasonKind.NOT_LOOKED_AT if evidence.connected else ReasonKind.NOT_CONNECTED
    return Verdict(Answer.NOT_SAFE, (Reason(kind, "nothing is known of it yet"),), accepted=evidence.accepted)
