"""Connections to jump hosts: one for all hosts behind it, closed with the last of them, and no host's flood ends it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import Pins, target_for
from harvestd.errors import HostQuarantined
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.connection import Connection, Hops
from harvestd.remote.ssh.errors import Unreachable
from harvestd.remote.ssh.target import Target
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

_BEHIND = 12
"""Hosts behind one jump host: more than sshd lets log in at the same time here."""


def _behind(gate: OpenSSHServer, box: OpenSSHServer, number: int = 0) -> Target:
    return target_for(box, identity=f"box-{number}", proxy_jump=f"{gate.user}@127.0.0.1:{gate.port}")


def _log_ins(server: OpenSSHServer) -> int:
    return server.log_text().count("Accepted publickey")


async def test_hosts_behind_a_jump_host_share_one_connection(openssh_factory: OpenSSHFactory) -> None:
    """However many hosts are connected at once, the jump host sees one log-in, and its end when all are gone."""
    gate = openssh_factory("gate", max_startups="2:100:2")
    box = openssh_factory("box", max_startups="100")
    hops, pins = Hops(), Pins()
    found: list[Connection] = []
    leave = anyio.Event()

    async def use(number: int) -> None:
        async with connect(_behind(gate, box, number), pins, hops=hops) as connection:
            found.append(connection)
            await leave.wait()

    async with anyio.create_task_group() as tasks:
        for number in range(_BEHIND):
            tasks.start_soon(use, number)
        await until(lambda: len(found) == _BEHIND)
        assert (_log_ins(gate), _log_ins(box)) == (1, _BEHIND)
        assert len(hops) == 1
        leave.set()
    assert len(hops) == 0
    await until(lambda: "Disconnected from user" in gate.log_text() or "disconnected" in gate.log_text())


async def test_bulk_has_a_few_connections_of_its_own(openssh_factory: OpenSSHFactory) -> None:
    """A pool of several opens as many, and shares them from then on."""
    gate, box = openssh_factory("gate"), openssh_factory("box", max_startups="100")
    hops, pins = Hops(3), Pins()
    async with AsyncExitStack() as stack:
        for number in range(7):
            await stack.enter_async_context(connect(_behind(gate, box, number), pins, hops=hops))
        assert len(hops) == 3
        assert _log_ins(gate) == 3


async def test_who_gives_up_does_not_take_others_along(openssh_factory: OpenSSHFactory) -> None:
    """Where the one that makes the shared connection is cancelled, another one makes it."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    hops, pins = Hops(), Pins()
    connected = anyio.Event()

    async def use(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            async with connect(_behind(gate, box, number), pins, hops=hops):
                connected.set()

    first, second = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, 1, first)
        await until(lambda: len(hops) == 1)
        tasks.start_soon(use, 2, second)
        await anyio.lowlevel.checkpoint()
        first.cancel()
        await connected.wait()
    assert len(hops) == 0


async def test_a_jump_host_that_refuses_is_asked_once_for_all(openssh_factory: OpenSSHFactory) -> None:
    """Those who wait for a connection that fails hear its error, and each does not try for itself."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    port = gate.port
    gate.stop()
    hops = Hops()
    errors: list[Exception] = []
    asked = 0

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        # All of them wait by now: none is let go before.
        await until(lambda: sum(each.users for some in hops._shared.values() for each in some) == _BEHIND)
        writer.close()

    async def use(number: int) -> None:
        try:
            async with connect(_behind(gate, box, number), Pins(), hops=hops):
                pass
        except Unreachable as e:
            errors.append(e)

    async with await asyncio.start_server(serve, "127.0.0.1", port), anyio.create_task_group() as tasks:
        for number in range(_BEHIND):
            tasks.start_soon(use, number)
    assert len(errors) == _BEHIND
    assert asked == 1


async def test_a_dead_shared_connection_is_not_given_to_others(openssh_factory: OpenSSHFactory) -> None:
    """After a jump host went down and came back, the next one that connects makes a new connection."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    hops, pins = Hops(), Pins()
    async with connect(_behind(gate, box, 1), pins, hops=hops) as old:
        gate.restart()
        await old.wait_closed()
        async with connect(_behind(gate, box, 2), pins, hops=hops) as new:
            assert not new.is_closed


class _Flooding(asyncssh.SSHServer):
    """Lets anybody in, and then never stops talking."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        return False

    def auth_completed(self) -> None:
        asyncio.get_running_loop().call_soon(self._talk)

    def _talk(self) -> None:
        if not self._connection.is_closed():
            for _ in range(200):
                self._connection.send_debug("x" * 1000)
            asyncio.get_running_loop().call_later(0.001, self._talk)


async def test_a_flood_behind_a_jump_host_ends_no_other_host(openssh_factory: OpenSSHFactory) -> None:
    """A host that is cut off for its flood leaves the shared connection, and the hosts on it, as they were."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    hops, pins = Hops(), Pins()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        asyncssh.listen("127.0.0.1", 0, server_factory=_Flooding, server_host_keys=[host_key]) as server,
        connect(_behind(gate, box), pins, hops=hops) as honest,
    ):
        for _ in range(3):
            liar = Target(
                "liar",
                "127.0.0.1",
                server.get_port(),
                identity_files=(box.client_key,),
                agent=False,
                proxy_jump=f"{gate.user}@127.0.0.1:{gate.port}",
            )
            async with connect(liar, pins, hops=hops) as connection:
                with anyio.fail_after(60):
                    await connection.wait_closed()
                assert isinstance(connection.lost(), HostQuarantined)
        assert len(hops) == 1
        assert not honest.is_closed
        assert (await honest.ssh.run("echo here")).stdout == "here\n"


async def test_a_jump_host_s_channel_is_no_narrower_than_what_it_carries(openssh_factory: OpenSSHFactory) -> None:
    """A far jump host does not hold bulk back to asyncssh's own small window and packets."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    window = 16 * 1024 * 1024
    async with connect(_behind(gate, box), Pins(), window=window) as connection:
        assert connection.hop is not None
        (channel,) = connection.hop.ssh._channels.values()
        assert channel._init_recv_window >= window
        assert channel._recv_pktsize >= 128 * 1024


async def test_other_keys_for_the_same_jump_host_are_other_connections(
    openssh_factory: OpenSSHFactory, tmp_path: Path
) -> None:
    """Two users of one jump host do not share: what is permitted there differs."""
    gate, box = openssh_factory("gate"), openssh_factory("box")
    config = tmp_path / "config"
    config.write_text(
        f"Host one two\n  HostName 127.0.0.1\n  Port {gate.port}\n  User {gate.user}\n"
        f"  IdentityFile {gate.client_key}\n"
    )
    hops, pins = Hops(), Pins()
    async with AsyncExitStack() as stack:
        for number, jump in enumerate(("one", "two", "one")):
            target = target_for(box, identity=f"box-{number}", config_files=(config,), proxy_jump=jump)
            await stack.enter_async_context(connect(target, pins, hops=hops))
        assert len(hops) == 2
