"""harvestd's own side in integration tests: a workstation, real boxes, the daemon, what it says and what it files.

The daemon runs in the test's own process (`running`), or as a program that can be stopped and killed:
`python -m support.house CONFIG [POINT TURN [DEED]]` runs it, and sends itself SIGKILL when the named moment POINT is
reached for the TURN-th time; with the deed "hold" that moment never ends instead. SIGUSR2 wedges it: whatever runs on
its event loop waits for good.
"""

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import anyio
import anyio.lowlevel
import structlog.testing

from harvestd import failpoints, service
from harvestd.catalogue import queries
from harvestd.convention.paths import is_report
from harvestd.demo.writers import RunWriter
from harvestd.harvest import verification
from harvestd.harvest.audit import Finding, FindingKind
from harvestd.harvest.fleet import supervisor
from harvestd.harvest.host.failures import PassResult
from harvestd.harvest.host.passes import HostOutcome, hosts_of, once
from harvestd.harvest.metrics import ProgressListener
from harvestd.settings import Settings, load
from harvestd.store import walking
from harvestd.telemetry.log import configure
from support.data_root import tree
from support.forking import Forked, Request
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.tables import joined
from support.waiting import DEADLINE, EventLog, until

__all__ = ["GpuBox", "Moved", "Workstation", "main", "until"]

_QUARANTINE = "TEST_QUARANTINE"


@dataclass(frozen=True)
class GpuBox:
    """One box: a real sshd, and the directory that plays its file system."""

    server: OpenSSHServer
    root: Path
    port: int
    """Where harvestd connects to: the server's own, or that of a relay before it."""


class Workstation:
    """Where harvestd runs: a data root, a configuration, and boxes that it knows of."""

    def __init__(self, directory: Path, servers: OpenSSHFactory) -> None:
        self.data = directory / "data"
        self.state = self.data / ".harvestd"
        """Where the catalogue lies; another directory once a test says so."""
        self.config = directory / "harvestd.toml"
        self.jobs = directory / "jobs"
        """Where the launcher of remote evals keeps its files; not made here."""
        self.keys: dict[str, dict[str, object]] = {}
        """What else the configuration says of a box, or says otherwise, by its name."""
        self.boxes: dict[str, GpuBox] = {}
        self._directory = directory
        self._servers = servers
        self._experiments: dict[str, Path] = {}

    def add_box(
        self,
        name: str = "gpu-a",
        *,
        root: Path | None = None,
        sftp_only: bool = False,
        extra_config: Sequence[str] = (),
        within: Sequence[str] = (),
    ) -> GpuBox:
        """Start a box, with an empty root of its own unless one is given; the rest is as an sshd's."""
        place = root or self._directory / "roots" / name
        place.mkdir(parents=True, exist_ok=True)
        # A shell that reads start files of the user who runs the tests may do anything, and leave locks when killed.
        mark = f"SetEnv HARVESTD_TEST_BOX={self._directory / 'openssh' / name} HOME={place}"
        server = self._servers(name, sftp_only=sftp_only, extra_config=[mark, *extra_config], within=within)
        self.boxes[name] = GpuBox(server, place, server.port)
        return self.boxes[name]

    def reach(self, name: str, port: int) -> None:
        """Let harvestd connect to a box through another port."""
        self.boxes[name] = GpuBox(self.boxes[name].server, self.boxes[name].root, port)

    def settings(self, **sections: Mapping[str, object]) -> Settings:
        """Write the configuration, quick in everything, and load it; `sections` are added key by key."""
        tables: dict[str, dict[str, object]] = {
            "poll": {"interval": "1s", "settle": "300ms"},
            "ssh": {"agent": False, "connect_timeout": "20s"},
            "limits": {"free_space": "1MiB"},
            "naming": {"default_experiment": "trial"},
            "report": {"pictures": False},
            "jobs": {"directory": str(self.jobs)},
        }
        for name, keys in sections.items():
            tables.setdefault(name, {}).update(keys)
        lines = ["version = 1", f'data_root = "{self.data}"']
        if self.state.parent != self.data:
            lines.append(f'state_dir = "{self.state}"')
        for name, keys in tables.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
        for name, box in self.boxes.items():
            table: dict[str, object] = {
                "name": name,
                "address": "127.0.0.1",
                "port": box.port,
                "user": box.server.user,
                "identity_files": [str(box.server.client_key)],
                "roots": [str(box.root)],
                "hardware": "h100",
                **self.keys.get(name, {}),
            }
            lines += ["[[hosts]]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        self.config.write_text("\n".join(lines) + "\n")
        return load(self.config, env={})

    @asynccontextmanager
    async def running(self, **sections: Mapping[str, object]) -> AsyncIterator[EventLog]:
        """Run the daemon in this process for the body; gives what it says while it says it.

        It looks at its boxes more often than any configuration allows.
        """
        self.settings(**sections)
        ready = anyio.Event()
        async with AsyncExitStack() as stack:
            event_log = stack.enter_context(structlog.testing.capture_logs())
            tasks = await stack.enter_async_context(anyio.create_task_group())

            async def serve() -> None:
                await service.run(_often(self.config), self.config, ready.set, reload=_often)

            tasks.start_soon(serve)
            with anyio.fail_after(DEADLINE):
                await ready.wait()
            yield event_log
            tasks.cancel_scope.cancel()

    async def once(
        self, monitor: ProgressListener | None = None, **sections: Mapping[str, object]
    ) -> dict[str, PassResult]:
        """Make one pass over all boxes; fails where one could not be read."""
        outcomes = await self.outcomes(monitor, **sections)
        for name, outcome in outcomes.items():
            assert outcome.error is None, f"{name}: {outcome.error}"
        return {name: outcome.result for name, outcome in outcomes.items() if outcome.result is not None}

    async def outcomes(
        self, monitor: ProgressListener | None = None, **sections: Mapping[str, object]
    ) -> dict[str, HostOutcome]:
        """Make one pass over all boxes."""
        settings = self.settings(**sections)
        with anyio.fail_after(DEADLINE * 3):
            found = await once(settings, await hosts_of(settings), monitor or Moved())
        return {outcome.host.name: outcome for outcome in found}

    def filed(self) -> dict[str, bytes | str]:
        """Return everything that was filed, without what harvestd writes itself."""
        return {path: content for path, content in tree(self.data).items() if not is_own(path)}

    def experiment(self, run: str) -> Path | None:
        """Return the directory of the experiment that a run was filed under; None while there is none."""
        if run not in self._experiments:
            question = "SELECT runs.name, directory FROM experiments JOIN runs ON experiments.id = runs.experiment"
            self._experiments = {str(name): self.data / str(place) for name, place in self.catalogue(question)}
        return self._experiments.get(run)

    def training(self, run: str) -> Path:
        """Return the directory that holds a run at home, or one that does not exist while there is none."""
        return (self.experiment(run) or self.data / "none") / "training_run"

    def stands(self, run: str, *parts: str) -> Callable[[], bool]:
        """Return the condition that something of a run stands at home, below its training_run directory."""
        return lambda: self.training(run).joinpath(*parts).exists()

    def has(self, remote: Path, run: str, *parts: str) -> Callable[[], bool]:
        """Return the condition that a file of a run at home has what the box's file `remote` has now."""
        content = remote.read_bytes()
        return lambda: self.stands(run, *parts)() and self.training(run).joinpath(*parts).read_bytes() == content

    def follows(self, writer: RunWriter) -> Callable[[], bool]:
        """Return the condition that a run's config, log and events at home are what they are on the box now."""
        paths = (writer.directory / "config.yaml", writer.train_log, writer.events)
        each = [self.has(path, writer.run.name, *path.relative_to(writer.directory).parts) for path in paths]
        return lambda: all(one() for one in each)

    def catalogue(self, question: str) -> list[tuple[object, ...]]:
        """Ask the catalogue's file, beside whoever else has it open; nothing where it is not made yet."""
        if not (self.state / "catalogue.sqlite").exists():
            return []
        with closing(sqlite3.connect(self.state / "catalogue.sqlite")) as database:
            made = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
            if made:
                joined(database)
            return list(database.execute(question)) if made else []

    @contextmanager
    def program(self, *crash: str, quarantine: float | None = None) -> Iterator[Forked]:
        """Run the daemon as a process of its own, killed at the end of the body if it still runs.

        It is ready to be waited for; its output is a file beside the configuration, see `output_file`. A `quarantine`
        is as many seconds long, where a test can't wait for what it really is.
        """
        env = dict(os.environ)
        if quarantine is not None:
            env[_QUARANTINE] = str(quarantine)
        request = Request("support.house", (str(self.config), *crash), env, Path.cwd())
        with self.output_file.open("w") as out, Path(os.devnull).open() as nothing:
            process = Forked(request, [nothing.fileno(), out.fileno(), out.fileno()])
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def output_file(self) -> Path:
        """Where `program` writes its output."""
        return self._directory / "output"

    def audit(self) -> None:
        """Check what must hold at any rest: the audit of `harvestd verify` finds nothing but a person's own files."""
        wrong = [finding for finding in self.findings() if finding.kind is not FindingKind.FOREIGN]
        assert not wrong, "\n".join(f"{finding.kind}: {finding.path} {finding.detail}" for finding in wrong)
        assert not self.catalogue("PRAGMA main.foreign_key_check"), "a row refers to one that is not there"

    def findings(self) -> list[Finding]:
        """Return all that the audit of `harvestd verify` finds; nothing while there is no data root yet."""
        settings = load(self.config, env={})
        if not (self.data / ".harvestd").exists():
            return []
        assert not verification.catalogue_findings(settings)
        with queries.questions(settings.state) as connection:
            subject = verification.everything(connection)
            return list(verification.findings(settings, connection, subject, lambda _: None))


class Moved:
    """A monitor that counts bytes as they come, by host."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    def planned(self, host: str, size: int, files: int) -> None:
        """Ignore it."""

    def moved(self, host: str, size: int) -> None:
        """Count it."""
        self.bytes[host] = self.bytes.get(host, 0) + size

    def resumed(self, host: str, size: int) -> None:
        """Count it too."""
        self.moved(host, size)

    def settled(self, host: str, files: int) -> None:
        """Ignore it."""

    def failed(self, host: str) -> None:
        """Ignore it."""

    def polled(self, host: str, seconds: float) -> None:
        """Ignore it."""

    def host_failed(self, host: str) -> None:
        """Ignore it."""

    def service_failed(self, service: str) -> None:
        """Ignore it."""


def is_own(path: str) -> bool:
    """Return whether a path below the data root is the index's, a manifest's, or an experiment's report's."""
    rest = path.split("/")[1:]
    return path == "index.md" or rest == ["manifest.json"] or is_report(rest)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'


def _often(config: Path) -> Settings:
    """Load a configuration, for a daemon that looks more often than any can say."""
    settings = load(config, env={})
    often = {"interval": timedelta(milliseconds=100)}
    quick = {
        "poll": settings.poll.model_copy(update=often),
        "lambda_cloud": settings.lambda_cloud.model_copy(update=often),
    }
    return settings.model_copy(update=quick)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hold() -> None:
    threading.Event().wait()


_DEEDS = {"die": _die, "hold": _hold}


def main(config: str, point: str = "", turn: str = "1", deed: str = "die") -> int:
    """Run the daemon as a program that does a deed at the moment given."""
    configure("json", "debug")
    signal.signal(signal.SIGUSR2, lambda *_: time.sleep(DEADLINE * 10))
    turns = count(1)

    def act() -> None:
        if next(turns) == int(turn):
            _DEEDS[deed]()

    settings = load(Path(config), env={})
    if _QUARANTINE in os.environ:
        supervisor.QUARANTINE = float(os.environ[_QUARANTINE])
    if point == "rename.linked":
        walking.renameat2 = None  # reached only where the file system can't refuse to replace
    if not point:
        return anyio.run(service.run, settings, Path(config))
    with failpoints.armed(point, act):
        return anyio.run(service.run, settings, Path(config))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
