"""A verdict on record, as commands show it with a daemon and without one: never an old *safe* as a present one."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from harvestd.catalogue.entries import HostRecord, VerdictRecord
from harvestd.catalogue.open import open_catalogue
from harvestd.convention.kinds import LossKind
from harvestd.errors import ExitCode
from harvestd.safety.verdict import FRESH_FOR, Loss, Verdict, VerdictAnswer, document_now, document_of, verdict_now
from harvestd.store.lock import DataRootLock, HolderKind
from harvestd.store.root import DataRoot
from support.command import harvestd_command

SAFE = Verdict(VerdictAnswer.SAFE)
EXCEPT = Verdict(
    VerdictAnswer.SAFE_EXCEPT, losses=(Loss(LossKind.RECORDS, "/r", 5),), accepted=frozenset({LossKind.RECORDS})
)
THREE_YEARS = 3 * 365 * 86_400.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of one host."""
    path = tmp_path / "harvestd.toml"
    path.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\n[[hosts]]\nname = "gpu-a"\naddress = "192.0.2.1"\n')
    return path


async def _judged(tmp_path: Path, verdict: Verdict, ago: float) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    with (
        DataRoot.open(tmp_path / "data") as root,
        closing(open_catalogue(tmp_path / "data/.harvestd", root.id)) as kept,
    ):
        now = time.time()
        await kept.hosts.save(HostRecord("gpu-a", "static:gpu-a", "192.0.2.1", "connected", "probe", now - ago))
        await kept.verdicts.save([VerdictRecord("static:gpu-a", "gpu-a", verdict, now - ago, now - ago, 249)], now)


def judged(tmp_path: Path, verdict: Verdict, ago: float) -> None:
    """Keep a host and a verdict on it in the catalogue, as a daemon does."""
    anyio.run(_judged, tmp_path, verdict, ago)


@contextmanager
def held(tmp_path: Path, kind: HolderKind) -> Iterator[None]:
    """Hold the data root as a process of this kind, for the body."""
    with DataRoot.open(tmp_path / "data") as root, DataRootLock.take(root, kind):
        yield


def listed(config: Path, command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the daemon's and the host's part of a command's JSON document."""
    done = harvestd_command(command, "--json", "-c", config)
    (host,) = done.document["hosts"]
    return done.document["daemon"], host


@pytest.mark.parametrize("verdict", [SAFE, EXCEPT], ids=["safe", "accepted"])
@pytest.mark.parametrize("command", ["hosts", "status"])
@pytest.mark.parametrize("kind", [None, HolderKind.COMMAND, HolderKind.ATTENDANT], ids=["nobody", "once", "wait"])
def test_without_a_daemon_nothing_is_connected_or_safe(
    tmp_path: Path, config: Path, command: str, verdict: Verdict, kind: HolderKind | None
) -> None:
    """Also beside a command that holds the data root; the answer of then is there under its own name."""
    judged(tmp_path, verdict, 60.0)
    if kind is None:
        daemon, host = listed(config, command)
    else:
        with held(tmp_path, kind):
            daemon, host = listed(config, command)
    assert daemon["running"] is False
    assert (host["state"], host["cents_since_idle"]) == ("not_watched", None)
    found = host["verdict"]
    assert (found["safe"], found["answer"], found["fresh"]) == (False, "not_safe", False)
    assert found["answer_then"] == verdict.answer
    assert 60 <= found["age_seconds"] < 3600
    assert found["reasons"][0]["kind"] == "not_looked_at"


@pytest.mark.parametrize("command", ["hosts", "status"])
def test_beside_a_daemon_a_verdict_holds_while_it_is_renewed(tmp_path: Path, config: Path, command: str) -> None:
    """A fresh one is shown as it is; one that was not renewed for long, or that is from the future, is not."""
    for ago, fresh in ((1.0, True), (THREE_YEARS, False), (-THREE_YEARS, False)):
        judged(tmp_path, SAFE, ago)
        with held(tmp_path, HolderKind.DAEMON):
            daemon, host = listed(config, command)
        assert daemon["running"] is True
        assert host["state"] == "connected"
        assert (host["verdict"]["safe"], host["verdict"]["fresh"]) == (fresh, fresh)


def test_a_host_that_left_the_configuration_is_watched_by_no_daemon(tmp_path: Path, config: Path) -> None:
    """Its last state and verdict are no present ones, however fresh they look."""
    judged(tmp_path, SAFE, 1.0)
    config.write_text(config.read_text().partition("[[hosts]]")[0])
    with held(tmp_path, HolderKind.DAEMON):
        _, host = listed(config, "hosts")
    assert (host["state"], host["configured"], host["verdict"]["safe"]) == ("not_watched", False, False)


def test_a_table_says_the_age(tmp_path: Path, config: Path) -> None:
    """For people, too; `status` ends with 7."""
    judged(tmp_path, SAFE, 7_200.0)
    for command, code in (("hosts", ExitCode.OK), ("status", ExitCode.LOCKED)):
        done = harvestd_command(command, "-c", config)
        assert done.code == code
        assert "not known (2h00m" in done.out
        assert "not watched" in done.out


@pytest.mark.parametrize(
    ("age", "watched", "fresh"), [(FRESH_FOR, True, True), (FRESH_FOR + 1, True, False), (0, False, False)]
)
def test_what_is_not_fresh_is_not_safe(age: float, *, watched: bool, fresh: bool) -> None:
    """In the document all keys agree: whichever a script reads, an old verdict says no."""
    document = document_now(SAFE, age, watched=watched)
    assert (document["safe"], document["fresh"], document["answer"] == "safe") == (fresh, fresh, fresh)
    assert document["answer_then"] == "safe"
    assert verdict_now(SAFE, age, watched=watched).is_safe is fresh
    assert document.keys() > document_of(SAFE).keys()
