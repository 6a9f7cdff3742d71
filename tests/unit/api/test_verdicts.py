"""Verdicts over HTTP and as metrics: in the form of `--json`, and never an old *safe* as a present one."""

import time

import pytest

from harvestd.api.metrics import metrics
from harvestd.api.state import Source, state
from harvestd.convention.kinds import LossKind
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.logs import LogIndexes
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.state import Judged
from harvestd.harvest.sync import Broadcast
from harvestd.inventory.host import Host
from harvestd.safety.verdict import FRESH_FOR, Loss, Verdict, VerdictAnswer, document_now
from harvestd.settings import Settings
from harvestd.store.caches import CacheDirectory
from harvestd.store.root import DataRoot

HOST = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")
EVIL = "\x1b[2J\udce9"
LOSSES = tuple(Loss(LossKind.RECORDS, f"/r/{EVIL}{number}", 5) for number in range(150))


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Return a daemon's parts with one host that nobody judged."""
    tally = FleetMetrics()
    context = Context.of(Settings(), tally)
    context.fleet.present = {HOST.identity: HOST}
    with DataRoot.open(tmp_path_factory.mktemp("data")) as root:
        logs = LogIndexes(context, root, CacheDirectory(context.settings.state / "series"))
        return Source(context, root, tally, Broadcast(), lambda: None, logs)


@pytest.mark.parametrize(("ago", "safe"), [(1.0, True), (FRESH_FOR + 60, False), (-FRESH_FOR - 60, False)])
def test_a_verdict_that_is_not_renewed_is_not_safe(source: Source, ago: float, *, safe: bool) -> None:
    """In the state document and as a metric, which says as well when it was made."""
    made = time.time() - ago
    source.context.states.of(HOST.identity).verdict = Judged(Verdict(VerdictAnswer.SAFE), made)
    (host,) = state(source, 0)["hosts"]
    verdict = host["verdict"]
    assert (verdict["safe"], verdict["is_safe"], verdict["fresh"]) == (safe, safe, safe)
    assert (verdict["answer"] == "safe") is safe
    assert verdict["answer_then"] == "safe"
    lines = metrics(source, 0).decode().splitlines()
    assert f'harvestd_safe_to_terminate{{host="gpu-a"}} {float(safe)}' in lines
    (told,) = [line for line in lines if line.startswith("harvestd_verdict_timestamp_seconds{")]
    assert float(told.split()[-1]) == pytest.approx(made, abs=1.0)


def test_one_form_of_a_verdict_escaped_and_bounded(source: Source) -> None:
    """All keys of `--json`, the older ones beside them; of many losses the first, with nothing for a terminal in it."""
    verdict = Verdict(VerdictAnswer.SAFE_EXCEPT, losses=LOSSES)
    source.context.states.of(HOST.identity).verdict = Judged(verdict, time.time())
    (host,) = state(source, 0)["hosts"]
    found = host["verdict"]
    assert found.keys() == document_now(verdict, 0.0, watched=True).keys() | {
        "is_safe",
        "at",
        "idle_since",
        "outstanding_bytes",
    }
    assert len(found["losses"]) == 100
    first = found["losses"][0]
    assert (first["bytes"], first["size_bytes"], first["entries"]) == (5, 5, 1)
    assert "\x1b" not in first["what"]
    assert (found["answer"], found["safe"]) == ("safe_except", False)
