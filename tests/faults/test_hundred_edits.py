"""A hundred edits of the configuration while twenty boxes transfer: nothing starts over, and the last file holds."""

import os
import random
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.settings import load
from support.faults import fired
from support.house import GpuBox, Workstation
from support.relay import Relay, relayed
from support.waiting import EventLog, events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024
BOXES = tuple(f"gpu-{number:02}" for number in range(20))
TOUCHED, GUEST = BOXES[0], "guest"
EDITS = 100
SIZE = 12 * MIB
BESIDE = 1536 * 1024
"""Bytes of a box's looks, logs and small files, and of SSH itself."""
FILE = ("training_state", "step_final", "optimizer.pt")


@dataclass
class Editor:
    """The operator: a state of the file that changes by dice, and mistakes between one state and the next."""

    workstation: Workstation
    dice: random.Random
    sections: dict[str, dict[str, object]] = field(
        default_factory=lambda: {name: {} for name in ("limits", "select", "naming", "poll", "verdict")}
    )
    experiments: dict[str, str] = field(default_factory=dict)
    """By host, where its table says so."""
    rules: list[str] = field(default_factory=list)
    keepalive: str = "10s"
    guest: GpuBox | None = None
    """One that comes and goes, while it is away."""
    edits: int = 0

    def change(self) -> None:
        """Change one or two things that can be meant."""
        dice, limits, select = self.dice, self.sections["limits"], self.sections["select"]
        # This one is another each time, so that each edit is a change.
        self.sections["verdict"]["idle_for"] = f"{self.edits + 10}m"
        match dice.randrange(10):
            case 0:
                limits["memory"] = f"{dice.randrange(256, 512)}MiB"
            case 1:
                limits["connecting"] = dice.randrange(1, 32)
            case 2:
                limits["bulk_connections_per_host"] = dice.randrange(1, 9)
            case 3:
                limits["free_space"] = f"{dice.randrange(1, 9)}MiB"
            case 4:
                limits["bandwidth"] = f"{dice.randrange(256, 512)}KiB/s"
            case 5:
                select["records"] = dice.choice([True, False])
                select["exclude"] = [f"*/never_{self.edits}/*"]
            case 6:
                self.sections["poll"]["settle"] = f"{dice.randrange(200, 400)}ms"
            case 7:
                self.rules.append(f'[[naming.rules]]\nrun = "run_2031-{self.edits}*"\nexperiment = "rule_{self.edits}"')
            case 8:
                self.experiments[dice.choice(BOXES)] = f"label_{self.edits}"
            case _:
                self._toggle_guest()

    def text(self) -> str:
        """Return the file for the state."""
        config = self.workstation.config
        self.workstation.config = config.with_name("draft")
        self.workstation.settings(**self.sections)
        text = self.workstation.config.read_text()
        self.workstation.config = config
        for name, experiment in self.experiments.items():
            text = text.replace(f'name = "{name}"\n', f'name = "{name}"\nexperiment = "{experiment}"\n')
        text = text.replace(f'name = "{TOUCHED}"\n', f'name = "{TOUCHED}"\nkeepalive = "{self.keepalive}"\n')
        return "\n".join([text, *self.rules, f"# edit {self.edits}\n"])

    def mistake(self, good: str) -> str:
        """Return a file that can't be meant; each is told in other words."""
        match self.dice.randrange(4):
            case 0:
                return good.replace("[limits]", f"[limits]\ncolour_{self.edits} = 1")
            case 1:
                return good.replace(f'name = "{BOXES[1]}"', f'name = "no name {self.edits}"\nbad_{self.edits} = 1')
            case 2:
                return good.replace("[poll]", f'[poll]\ninterval_{self.edits} = "soon"').replace('"300ms"', '"soon"')
            case _:  # torn, in a table's name
                return good[: good.index("[select]") + 4] + "\n" * self.edits

    def write(self, text: str) -> None:
        """Save by renaming, in place, or in place with half of it first."""
        config = self.workstation.config
        match self.dice.randrange(3):
            case 0:
                new = config.with_name("new")
                new.write_text(text)
                new.rename(config)
            case 1:
                config.write_text(text)
            case _:
                config.write_text(text[: self.dice.randrange(len(text))])
                config.write_text(text)

    def _toggle_guest(self) -> None:
        boxes = self.workstation.boxes
        if self.guest is None:
            self.guest = boxes.pop(GUEST)
        else:
            boxes[GUEST], self.guest = self.guest, None


async def edited(editor: Editor, event_log: EventLog, event: str, text: str) -> None:
    """Save a text and wait until the daemon has said what became of it."""
    before = len(events(event_log, event))
    editor.write(text)
    await until(lambda: len(events(event_log, event)) > before, 30)


def started(workstation: Workstation, name: str, number: int) -> RunWriter:
    """Start a box with a run."""
    writer = RunWriter(workstation.add_box(name).root, RunSpec(timestamp=f"2025-08-{number + 1:02}_03-31-43"))
    writer.start()
    writer.log_until(2)
    return writer


def finish(writer: RunWriter) -> None:
    """Write a large final checkpoint."""
    (writer.begin_checkpoint("final") / FILE[-1]).write_bytes(os.urandom(MIB) * (SIZE // MIB))
    writer.seal_checkpoint("final")


async def under_way(workstation: Workstation, writers: Mapping[str, RunWriter], relays: Mapping[str, Relay]) -> None:
    """Let every box have its checkpoint under way, slowly."""
    for writer in writers.values():
        await until(workstation.follows(writer), 60)
    for relay in relays.values():
        relay.rate = MIB // 4
    for writer in writers.values():
        finish(writer)
    await until(lambda: all(relay.open > 1 and relay.received > MIB // 2 for relay in relays.values()), 60)


@pytest.mark.slow
async def test_no_transfer_restarts_that_need_not(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each box sends its checkpoint once, over the connections it had; only the one whose link is to differ has others.

    What is torn or wrong is rejected each time, and in the end the daemon is where the last good file says.
    """
    monkeypatch.setattr("harvestd.settings.reload.QUIET", 50)
    writers = {name: started(workstation, name, number) for number, name in enumerate(BOXES)}
    workstation.add_box(GUEST)
    editor = Editor(workstation, random.Random(5))  # noqa: S311  (a test's own dice)
    async with AsyncExitStack() as stack:
        relays: dict[str, Relay] = {}
        for name in BOXES:
            relays[name] = await stack.enter_async_context(relayed(workstation.boxes[name].port))
            workstation.reach(name, relays[name].port)
        event_log = await stack.enter_async_context(workstation.running(**editor.sections))
        await under_way(workstation, writers, relays)
        editor.sections["limits"]["bandwidth"] = "512KiB/s"
        await edited(editor, event_log, "config.reloaded", editor.text())
        for relay in relays.values():
            relay.rate = None
        connections = {name: relay.connections for name, relay in relays.items()}
        rejected = 0
        while editor.edits < EDITS:
            editor.edits += 1
            if editor.dice.random() < 1 / 3:
                await edited(editor, event_log, "config.rejected", editor.mistake(editor.text()))
                fired(39)
                rejected += 1
            else:
                editor.change()
                if editor.edits > EDITS // 2:
                    editor.keepalive = "9s"
                await edited(editor, event_log, "config.reloaded", editor.text())
        assert not any(writer_is_home(workstation, writer) for writer in writers.values()), "they were not under way"
        again = [name for name in BOXES if relays[name].connections != connections[name]]
        assert again == [TOUCHED]
        assert len(events(event_log, "config.rejected")) == rejected > EDITS // 5

        editor.edits += 1
        editor.sections["limits"]["bandwidth"] = "unlimited"
        editor.sections["verdict"]["idle_for"] = "3h"
        await edited(editor, event_log, "config.reloaded", editor.text())
        for writer in writers.values():
            await until(lambda writer=writer: writer_is_home(workstation, writer), 60)  # type: ignore[misc]  # bound
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: events(event_log, "config.reloaded", added=(), removed=(), changed=()))
        watched = {table.name for table in load(workstation.config, env={}).hosts}
        assert watched - {GUEST} == set(BOXES)
        guest = workstation.boxes.get(GUEST) or editor.guest
        assert guest is not None
        await until(lambda: bool(guest.server.commands()) == (GUEST in watched))
        assert not events(event_log, "host.lost")
        sent = {name: relay.received for name, relay in relays.items()}
    assert all(SIZE < sent[name] < SIZE + BESIDE for name in BOXES[1:]), sent
    assert sent[TOUCHED] < SIZE * 3 / 2
    workstation.audit()


def writer_is_home(workstation: Workstation, writer: RunWriter) -> bool:
    """Return whether the checkpoint of a run is at home, wherever that is after the last edit."""
    workstation._experiments.clear()
    here = workstation.training(writer.run.name).joinpath(*FILE)
    return holds(here, writer.directory.joinpath(*FILE).read_bytes())()
