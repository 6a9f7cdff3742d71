"""The cloud's API fails in every way before real boxes: none is dropped, no file comes twice, no secret is told."""

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.inventory import lambda_api
from harvestd.inventory.lambda_provider import AGREEING, AGREEING_EMPTY
from support.account import Account
from support.cloud import FAILURES
from support.command import harvestd_command
from support.faults import fired
from support.planted import Planted
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

A, B, C = (letter * 32 for letter in "abc")


async def test_every_failure_leaves_the_last_good_set(
    account: Account, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the API does, the boxes stay watched over the same connections, and it is told once each time."""
    monkeypatch.setattr(lambda_api, "DEADLINE", 0.5)
    account.rent(A, "gpu-a", "127.0.0.2")
    account.rent(B, "", "127.0.0.3")
    run = RunWriter(account.root, RunSpec(total_steps=200))
    run.start()
    async with account.watched() as event_log:
        await until(lambda: len(events(event_log, "host.connected")) == 2)
        for number, name in enumerate(FAILURES, start=1):
            await account.serve(name)
            assert account.cloud.served[name], name
            run.log_until(number * 5)
            await until(account.workstation.follows(run))
            fired(41)
        assert len(events(event_log, "host.connected")) == 2
        assert {each["host"] for each in events(event_log, "host.appeared")} == {"gpu-a", f"lambda-{B[:8]}"}
        assert not events(event_log, "host.gone")
        failed, recovered = events(event_log, "inventory.failed"), events(event_log, "inventory.recovered")
        assert 0 < len(failed) <= len(FAILURES)
        assert len(failed) - len(recovered) in {0, 1}
        planted.hear("events", "\n".join(map(str, event_log)))
    assert planted.heard("lambda_cloud")
    assert len(list(account.workstation.data.glob("*/training_run"))) == 1
    planted.walk(account.workstation.data)
    assert planted.leaks({}) == []
    account.workstation.audit()


async def test_a_box_is_gone_after_several_good_answers(account: Account) -> None:
    """One that the cloud no longer names is watched until answers agree; the run goes on over another box."""
    first = account.rent(A, "gpu-a", "127.0.0.2")
    account.rent(B, "gpu-b", "127.0.0.3")
    run = RunWriter(account.root, RunSpec(total_steps=64))
    run.start()
    async with account.watched() as event_log:
        await until(lambda: len(events(event_log, "host.connected")) == 2)
        run.log_until(8)
        await until(account.workstation.follows(run))
        account.cloud.end(A)
        before = account.cloud.served["good"]
        await account.serve("500")
        first.kill()
        await until(lambda: events(event_log, "host.gone", host="gpu-a"))
        assert account.cloud.served["good"] >= before + AGREEING
        fired(41)
        run.log_until(16)
        await until(account.workstation.follows(run))
        assert len(list(account.workstation.data.glob("*/training_run"))) == 1
        await until(lambda: ("gpu-a", "gone") in account.workstation.catalogue("SELECT name, state FROM hosts"))
    account.workstation.audit()


async def test_an_account_that_is_empty_is_believed_late(account: Account) -> None:
    """No instances at all is what a stumbling cloud says, too: only when it goes on saying so are the boxes gone."""
    account.rent(A, "gpu-a", "127.0.0.2")
    async with account.watched() as event_log:
        await until(lambda: events(event_log, "host.connected"))
        account.cloud.instances.clear()
        before = account.cloud.served["good"]
        await until(lambda: events(event_log, "inventory.failed"))
        assert not events(event_log, "host.gone")
        await until(lambda: events(event_log, "host.gone"), 60)
        assert account.cloud.served["good"] >= before + AGREEING_EMPTY
        assert len(events(event_log, "inventory.failed")) == 1
        fired(41)
    account.workstation.audit()


async def test_boxes_move_and_are_replaced(account: Account) -> None:
    """An instance with a new address is the same host; a new one takes a name only when the old one is gone."""
    account.rent(A, "gpu-a", "127.0.0.2")
    account.rent(B, "gpu-b", "127.0.0.3")
    async with account.watched() as event_log:
        await until(lambda: len(events(event_log, "host.connected")) == 2)
        account.cloud.instances[1]["ip"] = "127.0.0.2"  # as when an address is given to the next one
        await until(lambda: events(event_log, "host.quarantined", host="gpu-b"))
        account.cloud.instances[1]["ip"] = "127.0.0.3"
        await until(lambda: len(events(event_log, "host.connected", host="gpu-b")) == 2)
        account.cloud.end(A)
        account.rent(C, "gpu-a", "127.0.0.4")
        await until(lambda: events(event_log, "host.appeared", host=f"gpu-a-{C[:8]}"))
        await until(lambda: events(event_log, "host.replaced", host="gpu-a", old=f"lambda_cloud:{A}"))
        await until(lambda: events(event_log, "host.connected", host="gpu-a", address="127.0.0.4"))
        assert len(events(event_log, "host.gone")) == 1
    account.workstation.audit()


async def test_commands_ask_the_cloud_and_tell_no_secret(account: Account, planted: Planted) -> None:
    """`check`, `doctor`, `plan`, `once` and `hosts` know the cloud's boxes, say when it fails, and tell none of it."""
    account.rent(A, "gpu-a", "127.0.0.2", tags=[{"key": "experiment", "value": "gns_test_run"}])
    run = RunWriter(account.root, RunSpec(total_steps=8))
    run.start()
    run.log_until(8)
    account.workstation.settings(**account.sections())
    told: dict[str, str] = {}
    for fails, code in ((None, 0), ("500", 5), ("torn JSON", 5)):
        account.cloud.fails = fails
        for words in ("doctor", "plan", "once", "hosts", "check"):
            ended = harvestd_command(words, "-c", account.workstation.config, "--json", cwd=None)
            planted.hear(words, ended.out + ended.err)
            told[f"{words} {fails}"] = ended.out + ended.err
            if words in {"plan", "once"}:
                assert ended.code == code, ended.err
        if fails:
            assert account.cloud.served[fails] == 3
            fired(41)
    assert '"gpu-a"' in told["doctor None"]
    assert '"gpu-a"' in told["hosts 500"]
    assert "status 500 (global/internal)" in told["once 500"]
    ended = harvestd_command("forget-key", "gpu-a", "-c", account.workstation.config, cwd=None)
    assert f"lambda_cloud:{A} is forgotten" in ended.out
    (home,) = account.workstation.data.glob("*/training_run")
    assert home.parent.name.startswith("gns_test_run_")
    assert "8x_h100" in home.parent.name
    planted.walk(account.workstation.data)
    assert planted.leaks({}) == []
    account.workstation.audit()
