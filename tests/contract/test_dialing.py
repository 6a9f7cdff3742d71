"""How a name becomes a connection: dead name servers delay nobody else, and each address of a name is tried."""

import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from contract.connected import outcome, target_for
from harvestd.remote.ssh import transport
from harvestd.remote.ssh.errors import Unreachable
from support.faults import fired
from support.openssh import OpenSSHFactory

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

_DEAD = 40
"""Hosts whose names nobody resolves: more than any pool of threads that others need."""


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], list[str]]]:
    """Return the names whose resolution a test decides about, each with what gives its addresses."""
    real = socket.getaddrinfo
    names: dict[str, Callable[[], list[str]]] = {}

    def answer(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:  # noqa: ANN401  (the system's own)
        given = names.get(host)
        if given is None:
            return real(host, port, *rest, **options)
        return [found for each in given() for found in real(each, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return names


async def test_dead_name_servers_delay_no_other_host(
    openssh_factory: OpenSSHFactory, resolving: dict[str, Callable[[], list[str]]]
) -> None:
    """While forty names are looked up in vain, a host with an address is connected to as ever."""
    server = openssh_factory()
    asked = threading.Semaphore(0)
    end = threading.Event()

    def dead() -> list[str]:
        asked.release()
        end.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    errors: list[object] = []

    async def vain(number: int) -> None:
        name = f"dead-{number}.invalid"
        resolving[name] = dead
        target = target_for(server, identity=name, address=name, connect_timeout=timedelta(seconds=20))
        errors.append(await outcome(target))

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(_DEAD):
                tasks.start_soon(vain, number)
            for _ in range(_DEAD):
                await anyio.to_thread.run_sync(asked.acquire, limiter=anyio.CapacityLimiter(1))
            fired(16)
            assert await outcome(target_for(server)) is None
            assert not errors
            end.set()
    finally:
        end.set()
    assert all(isinstance(error, Unreachable) for error in errors)


async def test_the_next_address_of_a_name_is_tried(
    openssh_factory: OpenSSHFactory, resolving: dict[str, Callable[[], list[str]]]
) -> None:
    """A name may have an address where nobody listens."""
    server = openssh_factory()
    resolving["two.invalid"] = lambda: ["127.0.0.77", "127.0.0.1"]
    assert await outcome(target_for(server, address="two.invalid")) is None
    resolving["none.invalid"] = lambda: ["127.0.0.77", "127.0.0.78"]
    assert isinstance(await outcome(target_for(server, address="none.invalid")), Unreachable)


async def test_an_address_that_leads_nowhere_holds_the_next_one_up_for_a_moment(
    openssh_factory: OpenSSHFactory, resolving: dict[str, Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that does not answer is raced by the next one, and given up when that one won."""
    server = openssh_factory()
    resolving["two.invalid"] = lambda: ["127.0.0.77", "127.0.0.1"]
    real = transport.connect
    given_up: list[object] = []

    async def hanging(family: int, place: Any, own: Any) -> socket.socket:  # noqa: ANN401  (as the real one)
        if place[0] == "127.0.0.1":
            return await real(family, place, own)
        try:
            await anyio.sleep_forever()
        finally:
            given_up.append(place)
        raise AssertionError

    monkeypatch.setattr(transport, "connect", hanging)
    assert await outcome(target_for(server, address="two.invalid")) is None
    assert len(given_up) == 1


async def test_an_unknown_address_family_of_a_name_is_said(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A host that has no address of the family that was asked for is unreachable, and the error says why."""
    server = openssh_factory()
    config = tmp_path / "config"
    config.write_text("Host *\n  AddressFamily inet6\n")
    error = await outcome(target_for(server, config_files=(config,)))
    assert isinstance(error, Unreachable)
    assert "resolved" in str(error)
