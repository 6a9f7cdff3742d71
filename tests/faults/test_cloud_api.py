"""The cloud's API fails in every way before real boxes: none is dropped, no file comes twice, no secret is told."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.inventory import lambda_cloud
from harvestd.inventory.known import AGREEING, AGREEING_EMPTY
from support.cloud import FAILURES, Cloud, cloud_api
from support.command import harvestd_command
from support.faults import fired
from support.house import Workstation
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.planted import Planted
from support.waiting import Said, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

A, B, C = (letter * 32 for letter in "abc")
FILE_SYSTEM = "f" * 32


@pytest.fixture
def planted() -> Planted:
    """Give what makes and finds secrets."""
    return Planted()


@pytest.fixture
def cloud(planted: Planted) -> Iterator[Cloud]:
    """Give an account without instances."""
    with cloud_api(planted) as account:
        yield account


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the file system that all boxes of the account show."""
    place = tmp_path / "shared" / "localfs"
    place.mkdir(parents=True)
    return place


class Account:
    """Boxes of the cloud: each address of loopback is another sshd, all on one port, before one file system."""

    def __init__(self, workstation: Workstation, factory: OpenSSHFactory, cloud: Cloud, root: Path) -> None:
        self.workstation = workstation
        self.cloud = cloud
        self.root = root
        self._factory = factory
        self._first: OpenSSHServer | None = None

    def rent(self, identifier: str, name: str, ip: str, **others: object) -> OpenSSHServer:
        """Start a box and name it in the cloud."""
        port = self._first.port if self._first else 0
        server = self._factory(f"box-{ip}", at=(ip, port))
        self._first = self._first or server
        mounts = [{"mount_point": str(self.root), "file_system_id": FILE_SYSTEM}]
        self.cloud.add(identifier, name, ip, file_system_mounts=mounts, **others)
        return server

    def sections(self) -> dict[str, dict[str, object]]:
        """Give what the configuration says beside the usual."""
        assert self._first is not None
        key_file = self.root.parent / "key"
        key_file.write_text(f"api_key = {self.cloud.key}\n")
        return {
            "ssh": {
                "port": self._first.port,
                "user": self._first.user,
                "identity_files": [str(self._first.client_key)],
            },
            "remote": {"roots": [str(self.root)]},
            "lambda_cloud": {"enabled": True, "base_url": self.cloud.url, "api_key_file": str(key_file)},
        }

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Said]:
        """Run the daemon on them for the body."""
        async with self.workstation.running(**self.sections()) as said:
            yield said

    async def serve(self, name: str, times: int = 1) -> None:
        """Answer with a failure so many times, then well, until an answer was taken."""
        before = self.cloud.served[name]
        self.cloud.fails = name
        await until(lambda: self.cloud.served[name] >= before + times)
        self.cloud.fails = None
        await self.answers(1)

    async def answers(self, count: int) -> None:
        """Wait for so many good answers that were asked for from now on."""
        before = self.cloud.served["good"]
        await until(lambda: self.cloud.served["good"] > before + count)


@pytest.fixture
def account(workstation: Workstation, openssh_factory: OpenSSHFactory, cloud: Cloud, root: Path) -> Account:
    """Give an account at a workstation that names no box itself."""
    return Account(workstation, openssh_factory, cloud, root)


async def test_every_failure_leaves_the_last_good_set(
    account: Account, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the API does, the boxes stay watched over the same connections, and it is told once each time."""
    monkeypatch.setattr(lambda_cloud, "_DEADLINE", 0.5)
    account.rent(A, "gpu-a", "127.0.0.2")
    account.rent(B, "", "127.0.0.3")
    run = RunWriter(account.root, RunSpec(total_steps=200))
    run.start()
    async with account.watched() as said:
        await until(lambda: len(events(said, "host.connected")) == 2)
        for number, name in enumerate(FAILURES, start=1):
            await account.serve(name)
            assert account.cloud.served[name], name
            run.log_until(number * 5)
            await until(account.workstation.follows(run))
            fired(41)
        assert len(events(said, "host.connected")) == 2
        assert {each["host"] for each in events(said, "host.appeared")} == {"gpu-a", f"lambda-{B[:8]}"}
        assert not events(said, "host.gone")
        failed, recovered = events(said, "inventory.failed"), events(said, "inventory.recovered")
        assert 0 < len(failed) <= len(FAILURES)
        assert len(failed) - len(recovered) in {0, 1}
        planted.hear("events", "\n".join(map(str, said)))
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
    async with account.watched() as said:
        await until(lambda: len(events(said, "host.connected")) == 2)
        run.log_until(8)
        await until(account.workstation.follows(run))
        account.cloud.end(A)
        before = account.cloud.served["good"]
        await account.serve("500")
        first.kill()
        await until(lambda: events(said, "host.gone", host="gpu-a"))
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
    async with account.watched() as said:
        await until(lambda: events(said, "host.connected"))
        account.cloud.instances.clear()
        before = account.cloud.served["good"]
        await until(lambda: events(said, "inventory.failed"))
        assert not events(said, "host.gone")
        await until(lambda: events(said, "host.gone"), 60)
        assert account.cloud.served["good"] >= before + AGREEING_EMPTY
        assert len(events(said, "inventory.failed")) == 1
        fired(41)
    account.workstation.audit()


async def test_boxes_move_and_are_replaced(account: Account) -> None:
    """An instance with a new address is the same host; a new one takes a name only when the old one is gone."""
    account.rent(A, "gpu-a", "127.0.0.2")
    account.rent(B, "gpu-b", "127.0.0.3")
    async with account.watched() as said:
        await until(lambda: len(events(said, "host.connected")) == 2)
        account.cloud.instances[1]["ip"] = "127.0.0.2"  # as when an address is given to the next one
        await until(lambda: events(said, "host.quarantined", host="gpu-b"))
        account.cloud.instances[1]["ip"] = "127.0.0.3"
        await until(lambda: len(events(said, "host.connected", host="gpu-b")) == 2)
        account.cloud.end(A)
        account.rent(C, "gpu-a", "127.0.0.4")
        await until(lambda: events(said, "host.connected", host=f"gpu-a-{C[:8]}"))
        await until(lambda: events(said, "host.replaced", host="gpu-a", old=f"lambda_cloud:{A}"))
        await until(lambda: events(said, "host.connected", host="gpu-a", address="127.0.0.4"))
        assert len(events(said, "host.gone")) == 1
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
