"""Twenty boxes that the cloud names, moves, replaces and ends while it stumbles: the right ones are watched."""

import random

import pytest

from support.account import Account
from support.cloud import FAILURES
from support.faults import fired
from support.openssh import OpenSSHServer
from support.planted import Planted
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

BOXES = 20
ROUNDS = 12
QUICK = ("429", "500", "torn JSON", "a cut answer", "a wrong type", "ids that are none", "an empty list")
"""Failures that need no time."""


@pytest.mark.slow
async def test_the_right_boxes_are_watched_at_every_moment(account: Account, planted: Planted) -> None:
    """After each change, with failures between all of them, exactly the boxes that exist have somebody logged in."""
    chance = random.Random(7)  # noqa: S311  (a test's own dice)
    living: dict[str, OpenSSHServer] = {}
    addresses = (f"127.0.1.{number}" for number in range(1, 200))
    ids = (f"{number:032x}" for number in range(1, 200))

    def rent(name: str) -> None:
        identifier = next(ids)
        living[identifier] = account.rent(identifier, name, next(addresses))

    def watched() -> set[str]:
        return {identifier for identifier, server in living.items() if server.commands()}

    for number in range(BOXES):
        rent(f"gpu-{number}")
    ended: list[OpenSSHServer] = []
    async with account.watched() as said:
        await until(lambda: watched() == set(living))
        for turn in range(ROUNDS):
            account.cloud.fails = failure = QUICK[turn % len(QUICK)]
            chosen = chance.choice(sorted(living))
            entry = next(each for each in account.cloud.instances if each["id"] == chosen)
            if turn % 3 == 0:  # it moves
                server = living[chosen]
                server.stop()
                server.address = next(addresses)
                entry["ip"] = server.address
                server.start()
            else:  # it ends, and is replaced at once every other time
                account.cloud.end(chosen)
                ended.append(living.pop(chosen))
                if turn % 3 == 1:
                    rent(str(entry["name"]))
            await until(lambda name=failure: account.cloud.served[name])  # type: ignore[misc]  # bound by its default
            account.cloud.fails = None
            await until(lambda: watched() == set(living))
            await until(lambda: not any(server.commands() for server in ended))
            fired(41)
        assert set(FAILURES) > set(QUICK)
        assert len(events(said, "host.gone")) == len(ended)
        planted.hear("events", "\n".join(map(str, said)))
    planted.walk(account.workstation.data)
    assert planted.leaks({}) == []
    account.workstation.audit()


async def test_the_cloud_stands_beside_what_is_written_down(account: Account) -> None:
    """Turned on while the daemon runs it adds its boxes, turned off it takes them away; others keep their link."""
    written = account.workstation.add_box("desk")
    account.rent("a" * 32, "gpu-a", "127.0.0.2")
    on = account.sections()
    off = {**on, "lambda_cloud": {**on["lambda_cloud"], "enabled": False}}
    async with account.workstation.running(**off) as said:
        await until(lambda: events(said, "host.connected", host="desk"))
        account.workstation.settings(**on)
        await until(lambda: events(said, "host.connected", host="gpu-a"))
        account.workstation.settings(**off)
        await until(lambda: events(said, "host.gone", host="gpu-a"))
        assert written.server.commands()
        assert len(events(said, "host.connected", host="desk")) == 1
    account.workstation.audit()
