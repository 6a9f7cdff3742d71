"""The loop of `harvestd status --watch`: redraws the scene when it changed, until Ctrl-C or SIGTERM ends it.

The scene is drawn over the previous one, in one piece and without clearing the screen, about twice a second. Signals
are handled one at a time between two drawings, so that none can end the process with half a screen or a hidden cursor.
A thread fetches the scenes meanwhile: a daemon that hangs delays neither drawing nor signals.

Sources of the status screen's scenes: the daemon while one answers, otherwise the catalogue. A failed query shows the
last scene and the reason: a daemon that restarts, or is migrating the catalogue to another schema, does not end the
screen.
"""

import signal
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace
from rich.console import Console
from rich.live import Live
from rich.segment import Segment

from harvestd.catalogue import queries
from harvestd.cli.daemon import Absent, DaemonClient, found_holder
from harvestd.cli.output import hosts_runs, verdict_page
from harvestd.cli.output.hosts_runs import cell_of, is_shown_live
from harvestd.cli.output.page import Styled
from harvestd.cli.output.screen import HostLine, RunLine, Scene, drawn, scene_of
from harvestd.cli.output.units import duration
from harvestd.documents import stored
from harvestd.documents.forms import HostView
from harvestd.documents.stored import RunStatuses
from harvestd.errors import HarvestError
from harvestd.inventory.host import rate
from harvestd.planning.records import RunRecord
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind

_CHECK_EVERY: Final = 2.0
"""Seconds between two queries of the catalogue; the daemon is queried each time."""
_EVENTS: Final = 100
"""The newest ones that are kept: more than any terminal has lines for them."""


class Scenes:
    """Returns the present scene."""

    def __init__(self, settings: Settings) -> None:
        self._daemon = _Daemon(settings)
        self._catalogue = _Catalogue(settings)

    def now(self) -> Scene:
        """Query the daemon, or the catalogue where none answers; raise nothing."""
        try:
            scene = self._daemon.now()
        except Absent:
            return self._catalogue.now()
        self._catalogue.daemon_answered()
        return scene


class _Daemon:
    """Scenes from the daemon."""

    def __init__(self, settings: Settings) -> None:
        self._client = DaemonClient(settings)
        self._pid: int | None = None
        self._newest: int | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)

    def now(self) -> Scene:
        """Query the daemon; raise `Absent` where none answers, or one of another version."""
        try:
            return self._query()
        except (KeyError, TypeError, ValueError) as error:
            raise Absent("the daemon is of another version") from error

    def _query(self) -> Scene:
        state = self._client.state()
        if state["daemon"]["pid"] != self._pid:
            # Another process numbers its events from the start again.
            self._pid, self._newest = state["daemon"]["pid"], None
            self._events.clear()
        for event in self._client.events(since=self._newest, level="info"):
            self._newest = self._newest if event["id"] is None else event["id"]
            self._events.append(event)
        return scene_of(state, self._events)


class _Catalogue:
    """Scenes from the catalogue, as fresh as its last update."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scene = Scene(Styled("", ""))
        self._read_at: float | None = None
        self._was_there = False
        self._absent_since: float | None = None

    def now(self) -> Scene:
        """Query the catalogue, unless the last query is fresh enough."""
        moment = time.monotonic()
        if self._read_at is None or moment - self._read_at >= _CHECK_EVERY:
            self._read_at = moment
            try:
                self._scene = self._read()
            except HarvestError as error:
                self._scene = replace(self._scene, head=Styled(f"{error}; this was seen last", "yellow"))
        return self._scene

    def daemon_answered(self) -> None:
        """Record that a daemon answers, and that the catalogue's scene is outdated."""
        self._read_at, self._was_there, self._absent_since = None, True, None

    def _read(self) -> Scene:
        found = found_holder(self._settings)
        daemon = found if found is not None and found.kind is HolderKind.DAEMON else None
        with queries.questions(self._settings.state) as connection:
            hosts = stored.hosts(connection, self._settings)
            runs = queries.runs(connection)
            run_statuses = RunStatuses(connection)
        shown = (_host(host, watched=host.is_watched(daemon=daemon is not None)) for host in hosts)
        lines = sorted(shown, key=lambda line: line.urgency)
        return Scene(self._head(daemon, hosts), tuple(lines), runs=tuple(_runs(runs, run_statuses)))

    def _head(self, daemon: Holder | None, hosts: Sequence[HostView]) -> Styled:
        if daemon is None:
            if self._was_there and self._absent_since is None:
                self._absent_since = time.time()
            since = time.strftime(" since %H:%M:%S", time.localtime(self._absent_since)) if self._absent_since else ""
            return Styled(f"no daemon{since}, from the catalogue; `harvestd run` starts one", "yellow")
        self._was_there, self._absent_since = True, None
        connected = sum(host.state == "connected" for host in hosts)
        who = f"process {daemon.pid}" if daemon.pid else "starts at this moment"
        text = f"harvestd: {who}, {connected} of {len(hosts)} hosts connected"
        if not self._settings.api.socket:
            return Styled(text, "bold")
        return Styled(f"{text} by the catalogue; the daemon does not answer now", "yellow")


def _host(host: HostView, *, watched: bool) -> HostLine:
    state = hosts_runs.state_of(host, watched=watched)
    judged = host.judged
    price = judged.cents_per_hour if judged else None
    return HostLine(
        host.name,
        state,
        host.last_success,
        host.pending_bytes,
        verdict_page.cell(judged, watched=watched) if judged else "",
        "" if price is None else rate(price),
        host.error,
    )


def _runs(runs: Sequence[RunRecord], run_statuses: RunStatuses) -> Iterator[RunLine]:
    for run in runs:
        current = run_statuses.of(run)
        if is_shown_live(current.status, current.since, time.time()):
            left = run.seconds_left if current.goes_on else None
            yield RunLine(run.name, run.host, hosts_runs.steps_of(run), left, cell_of(current))


_EVERY: Final = 0.5
"""Seconds between two drawings."""
_LATE: Final = 5.0
"""Seconds after which a scene is shown as outdated."""
_FIRST: Final = 1.0
"""Seconds to wait for the first scene before anything is drawn."""
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_TAKEN: Final = _ENDING | {signal.SIGWINCH}
_LOCAL_MODES: Final = 3
"""The index in termios's list for the flags that echo typed characters."""


def watch_status(settings: Settings, console: Console) -> None:
    """Show hosts and runs on `console` until a signal ends it; leave the last scene with the cursor below it."""
    with (
        _signals_wait(),
        _queried_in_thread(Scenes(settings)) as newest,
        _typing_hidden(console.file.fileno()),
        Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
    ):
        shown: list[list[Segment]] = []
        size = console.size
        while True:
            if console.size != size:
                # The old scene was wrapped for another width, so its beginning can't be found by moving the cursor.
                size = console.size
                console.clear()
            scene = drawn(newest.scene(), console)
            lines = console.render_lines(scene)
            if lines != shown:
                shown = lines
                live.update(scene, refresh=True)
            took = signal.sigtimedwait(_TAKEN, _EVERY)
            if took is not None and took.si_signo in _ENDING:
                return


class _Newest:
    """The newest scene from the thread."""

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes
        self._scene = Scene(Styled("asking the daemon", "dim"))
        self._asked_at = time.monotonic()
        """When the unanswered query began."""
        self._bug: Exception | None = None
        self._is_first = threading.Event()
        self._is_over = threading.Event()

    def scene(self) -> Scene:
        """Return the newest scene; its head is a warning where the next one is late. Raise what ended the thread."""
        self._is_first.wait(_FIRST)
        if self._bug is not None:
            raise self._bug
        waiting = time.monotonic() - self._asked_at
        if waiting < _LATE:
            return self._scene
        late = Styled(f"STUCK: the daemon gives no answer for {duration(waiting)}; this was seen last", "red")
        return replace(self._scene, head=late)

    def run(self) -> None:
        """Query repeatedly, until `stop`."""
        try:
            while not self._is_over.is_set():
                self._asked_at = time.monotonic()
                self._scene = self._scenes.now()
                self._is_first.set()
                self._asked_at = time.monotonic()
                self._is_over.wait(_EVERY)
        except Exception as bug:  # noqa: BLE001  (raised again where it is seen)
            self._bug = bug
            self._is_first.set()

    def stop(self) -> None:
        """Stop querying; a query in progress is not waited for."""
        self._is_over.set()


@contextmanager
def _queried_in_thread(scenes: Scenes) -> Iterator[_Newest]:
    """Query scenes in a thread during the body. It blocks signals as its creator does, and ends with the process."""
    newest = _Newest(scenes)
    threading.Thread(target=newest.run, daemon=True, name="scenes").start()
    try:
        yield newest
    finally:
        newest.stop()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Block signals, so that `sigtimedwait` receives them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _typing_hidden(terminal: int) -> Iterator[None]:
    """Disable the echo of typed characters: the `^C` of Ctrl-C alone would scroll the screen by a line."""
    before = termios.tcgetattr(terminal)
    hidden = [*before]
    hidden[_LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
