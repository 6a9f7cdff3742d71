"""Sources of the status screen's scenes: the daemon while one answers, otherwise the catalogue.

A failed query shows the last scene and the reason: a daemon that restarts, or is migrating the catalogue to another
schema, does not end the screen.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from harvestd.catalogue import queries
from harvestd.cli.client import Absent, DaemonClient
from harvestd.cli.output import hosts_runs, verdict_page
from harvestd.cli.output.hosts_runs import HostView, Standings, cell_of, is_news
from harvestd.cli.output.page import Styled
from harvestd.cli.presence import found_holder
from harvestd.cli.watch.scene import HostLine, RunLine, Scene, scene_of
from harvestd.errors import HarvestError
from harvestd.inventory.host import rate
from harvestd.planning.records import RunRecord
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind

_LOOK_EVERY: Final = 2.0
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
            return self._asked()
        except (KeyError, TypeError, ValueError) as error:
            raise Absent("the daemon is of another version") from error

    def _asked(self) -> Scene:
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
        self._looked: float | None = None
        self._was_there = False
        self._absent_since: float | None = None

    def now(self) -> Scene:
        """Query the catalogue, unless the last query is fresh enough."""
        moment = time.monotonic()
        if self._looked is None or moment - self._looked >= _LOOK_EVERY:
            self._looked = moment
            try:
                self._scene = self._look()
            except HarvestError as error:
                self._scene = replace(self._scene, head=Styled(f"{error}; this was seen last", "yellow"))
        return self._scene

    def daemon_answered(self) -> None:
        """Record that a daemon answers, and that the catalogue's scene is outdated."""
        self._looked, self._was_there, self._absent_since = None, True, None

    def _look(self) -> Scene:
        found = found_holder(self._settings)
        daemon = found if found is not None and found.kind is HolderKind.DAEMON else None
        with queries.questions(self._settings.state) as connection:
            hosts = hosts_runs.hosts(connection, self._settings)
            runs = queries.runs(connection)
            standings = Standings(connection)
        shown = (_host(host, watched=hosts_runs.is_watched(host, daemon)) for host in hosts)
        lines = sorted(shown, key=lambda line: line.urgency)
        return Scene(self._head(daemon, hosts), tuple(lines), runs=tuple(_runs(runs, standings)))

    def _head(self, daemon: Holder | None, hosts: Sequence[HostView]) -> Styled:
        if daemon is None:
            if self._was_there and self._absent_since is None:
                self._absent_since = time.time()
            since = time.strftime(" since %H:%M:%S", time.localtime(self._absent_since)) if self._absent_since else ""
            return Styled(f"no daemon{since}, from the catalogue; `harvestd run` starts one", "yellow")
        self._was_there, self._absent_since = True, None
        connected = sum(host.state == "connected" for host in hosts)
        who = f"process {daemon.pid}" if daemon.pid else "starts at this moment"
        said = f"harvestd: {who}, {connected} of {len(hosts)} hosts connected"
        if not self._settings.api.socket:
            return Styled(said, "bold")
        return Styled(f"{said} by the catalogue; the daemon does not answer now", "yellow")


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


def _runs(runs: Sequence[RunRecord], standings: Standings) -> Iterator[RunLine]:
    for run in runs:
        standing = standings.of(run)
        if is_news(standing.status, standing.since, time.time()):
            left = run.seconds_left if standing.goes_on else None
            yield RunLine(run.name, run.host, hosts_runs.steps_of(run), left, cell_of(standing))
