"""Twenty boxes that the cloud names, moves, replaces and ends while it stumbles: the right ones are watched."""

import random
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from itertools import cycle

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.inventory import lambda_api, lambda_provider
from support.account import Account
from support.cloud import FAILURES
from support.command import command, environment, harvestd_command
from support.faults import fired
from support.openssh import OpenSSHServer
from support.planted import Planted
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

BOXES = 20
STATES = ("terminating", "preempted", "unhealthy", "hibernating", 7, None, "\x1b[2J")
"""What an instance may be in while it still answers."""
MAY_BE_MISSING = (
    "name",
    "ip",
    "status",
    "region",
    "instance_type",
    "tags",
    "file_system_mounts",
    "actions",
    "hostname",
)


class Story:
    """What happens to the boxes of an account, by dice; each deed leaves `living` as those that are to be watched."""

    def __init__(self, account: Account, seed: int) -> None:
        self.account = account
        self.dice = random.Random(seed)  # noqa: S311  (a test's own dice)
        self.living: dict[str, OpenSSHServer] = {}
        self.ended: list[OpenSSHServer] = []
        self.replaced: set[tuple[str, str]] = set()
        """The identities of who came and of who was there before."""
        self._names: dict[str, str] = {}
        self._addresses = (f"127.0.{net}.{number}" for net in (1, 2) for number in range(1, 200))

    def appear(self) -> None:
        """Rent a box."""
        self._rent(f"gpu-{self.dice.randrange(10**6)}", next(self._addresses))

    def move(self) -> None:
        """Return a box another address."""
        chosen = self._any()
        server = self.living[chosen]
        server.stop()
        server.address = next(self._addresses)
        self._entry(chosen)["ip"] = server.address
        server.start()

    def replace_by_name(self) -> None:
        """End a box, and rent another one by its name; the old one goes on answering for a while."""
        old = self._any()
        name = self._names[old]
        self._end(old)
        self.replaced.add((self._rent(name, next(self._addresses)), old))

    def replace_by_address(self) -> None:
        """End a box, and give its address to another one with keys of its own."""
        old = self._any()
        self._end(old).stop()
        new = self._rent(f"gpu-{self.dice.randrange(10**6)}", self.ended[-1].address)
        self.replaced.add((new, old))
        fired(10)

    def vanish(self) -> None:
        """Name a box no more, though it answers still."""
        self._end(self._any())

    def change_state(self) -> None:
        """Report a host in a state that is no reason to drop it."""
        self._entry(self._any())["status"] = self.dice.choice(STATES)

    def lose_fields(self) -> None:
        """Leave out of a box what may be missing; what was known counts on."""
        entry = self._entry(self._any())
        for key in self.dice.sample(MAY_BE_MISSING, 4):
            entry.pop(key, None)

    def is_followed(self) -> bool:
        """Return whether exactly the boxes that exist have somebody logged in."""
        return all(server.commands() for server in self.living.values()) and not any(
            server.commands() for server in self.ended
        )

    def log_ins(self) -> int:
        """Return how often somebody logged in to the boxes that exist."""
        return sum(server.log_text().count("Accepted publickey") for server in self.living.values())

    def _rent(self, name: str, address: str) -> str:
        identifier = f"{self.dice.getrandbits(128):032x}"
        self.living[identifier] = self.account.rent(identifier, name, address)
        self._names[identifier] = name
        return identifier

    def _end(self, identifier: str) -> OpenSSHServer:
        self.account.cloud.end(identifier)
        self.ended.append(self.living.pop(identifier))
        return self.ended[-1]

    def _any(self) -> str:
        return self.dice.choice(sorted(self.living))

    def _entry(self, identifier: str) -> dict[str, object]:
        return next(each for each in self.account.cloud.instances if each["id"] == identifier)


def deeds(story: Story) -> list[Callable[[], None]]:
    """Return what happens, in an order of chance: as many come as go."""
    twice = (story.appear, story.vanish, story.change_state, story.lose_fields)
    thrice = (story.move, story.replace_by_name, story.replace_by_address)
    found = [*twice * 2, *thrice * 3, *[story.change_state] * (len(FAILURES) - 17)]
    story.dice.shuffle(found)
    return found


@pytest.mark.slow
async def test_the_right_boxes_are_watched_at_every_moment(
    account: Account, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each change, with every failure of the API among them, exactly the boxes that exist are watched.

    Nobody loses a connection over a failure, and nothing that is told or written holds a secret.
    """
    monkeypatch.setattr(lambda_api, "DEADLINE", 2.0)
    account.cloud.retry_after = "1"
    story = Story(account, 7)
    for _ in range(BOXES):
        story.appear()
    run = RunWriter(account.root, RunSpec(total_steps=200))
    run.start()
    async with account.watched() as event_log:
        await until(story.is_followed, 60)
        failures = list(FAILURES)
        story.dice.shuffle(failures)
        for number, (failure, deed) in enumerate(zip(cycle(failures), deeds(story), strict=False), start=2):
            log_ins = story.log_ins()
            await account.serve(failure)
            fired(41)
            assert story.log_ins() == log_ins, failure
            account.cloud.fails = failure
            await anyio.to_thread.run_sync(deed)
            account.cloud.fails = None
            await until(story.is_followed, 60)
            run.log_until(number)
        await until(account.workstation.follows(run), 60)
        assert set(account.cloud.served) >= set(FAILURES)
        await until(lambda: len(events(event_log, "host.gone")) == len(story.ended))
        assert not events(event_log, "host.lost", error="")
        assert replacements(event_log) == story.replaced
        for words in ("status", "hosts", "doctor", "events", "check"):
            await anyio.to_thread.run_sync(partial(ask, account, planted, words))
        planted.hear("events", "\n".join(map(str, event_log)))
    await anyio.to_thread.run_sync(partial(log_of_daemon, account, planted))
    planted.walk(account.workstation.data)
    assert planted.heard("lambda_cloud:")
    assert planted.leaks({}) == []
    account.workstation.audit()


def replacements(event_log: EventLog) -> set[tuple[str, str]]:
    """Return who replaced whom, by ids, as it was told."""
    source = f"{lambda_provider.LambdaCloudHosts.name}:"
    told = events(event_log, "host.replaced")
    return {(str(one["identity"]).removeprefix(source), str(one["old"]).removeprefix(source)) for one in told}


def ask(account: Account, planted: Planted, word: str) -> None:
    """Check a command's answer in both forms, with a cloud that answers and with one that does not."""
    for fails in (None, "500"):
        account.cloud.fails = fails
        for form in ([], ["--json"]):
            ended = harvestd_command(word, "-c", account.workstation.config, *form)
            planted.hear(f"{word} {form}", ended.out + ended.err)
    account.cloud.fails = None


def log_of_daemon(account: Account, planted: Planted) -> None:
    """Return all that the program logs, from its start to its end."""
    log = account.workstation.config.with_name("log")
    words = ("run", "-c", account.workstation.config, "--log-level", "debug")
    with log.open("w") as out, subprocess.Popen(command(*words), stdout=out, stderr=out, env=environment()) as process:
        try:
            anyio.run(partial(until, lambda: "host.connected" in log.read_text(), 60))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    planted.hear("the log", log.read_text())


async def test_the_cloud_stands_beside_what_is_written_down(account: Account) -> None:
    """Turned on while the daemon runs it adds its boxes, turned off it takes them away; others keep their link."""
    written = account.workstation.add_box("desk")
    account.rent("a" * 32, "gpu-a", "127.0.0.2")
    on = account.sections()
    off = {**on, "lambda_cloud": {**on["lambda_cloud"], "enabled": False}}
    async with account.workstation.running(**off) as event_log:
        await until(lambda: events(event_log, "host.connected", host="desk"))
        account.workstation.settings(**on)
        await until(lambda: events(event_log, "host.connected", host="gpu-a"))
        account.workstation.settings(**off)
        await until(lambda: events(event_log, "host.gone", host="gpu-a"))
        assert written.server.commands()
        assert len(events(event_log, "host.connected", host="desk")) == 1
    account.workstation.audit()
