"""Updates the reports of changed experiments within a minute, at little cost; at the end of a pass, all of them.

The index of all experiments follows them. One experiment at a time. Drawing takes at most a tenth of the time, so that
many running experiments can share a small machine with other work. Each failure is logged once per reason, and stops
nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread

from harvestd.bulkhead import backoff
from harvestd.errors import DiskFull, HarvestError, Retry
from harvestd.harvest.change_feed import Debouncer
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.index_page import IndexPage
from harvestd.planning.index import PlanningIndex
from harvestd.report import analysis, making
from harvestd.report.analysis import Placed
from harvestd.report.small_files import Known
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

EVERY = 60.0
"""The least seconds between two updates of one report."""
QUIET = 5.0
"""Seconds without a change after which it is updated before it is `EVERY` behind."""
LOOK = 1.0
_CHECKING = 0.1
"""Seconds of every `LOOK` for checking reports that did not change."""
REST = 9.0
"""Seconds without drawing for each second of drawing."""
_END = 120.0
"""Seconds that a pass draws at its end; `harvestd report`, and the daemon, make what is missing then."""
_LONGEST_PAUSE = 3600.0
"""The most seconds before a report that failed unexpectedly is made again."""
_DRAW_NOW = "it is tried again later, and by `harvestd report` at once; report.pictures = false draws none"
_WITHOUT = "pip install 'harvestd[analysis]'"


class Reports:
    """Makes the reports of experiments."""

    def __init__(self, context: Context, root: DataRoot) -> None:
        self._context = context
        self._root = root
        self._behind: Debouncer[str] = Debouncer(QUIET, EVERY)
        """The experiments whose reports are to be updated."""
        self._failures: dict[str, int] = {}
        """How often in a row each report failed unexpectedly."""
        self._undrawn: dict[str, Placed] = {}
        """Experiments whose pictures are out of date, the longest waiting first."""
        self._undone: dict[str, int] = {}
        """How often in a row each one's pictures could not be drawn for lack of time or room."""
        self._runs: dict[str, tuple[object, ...]] = {}
        """The facts of each run when the runs were last compared."""
        self._unchecked: list[str] = []
        """Experiments whose reports the last process may have left out of date."""
        self._check_from = 0.0
        """When the first of them is checked, in monotonic seconds."""
        self._noted = -1
        """The version of `PlanningIndex` at that time."""
        self._may_draw = 0.0
        self._logged: dict[tuple[str, str], str] = {}
        """The last error by experiment and script."""
        self._is_plain_logged = False
        self._index = IndexPage(context, root)

    async def run(self) -> None:
        """Make due reports until cancelled. Raise `HaltedForSafety`."""
        await self._context.catalogue_opened.wait()
        self._check_from = time.monotonic() + QUIET
        self._unchecked = [each.id for each in self._context.catalogue.knowledge.experiments() if not each.gone]
        self._index.changed()
        while True:
            self._note()
            for identifier in self._behind.due(time.monotonic()):
                await self._write(identifier)
            await self._check_some()
            if self._undrawn and time.monotonic() >= self._may_draw:
                await self._draw(next(iter(self._undrawn)))
            await self._index.update()
            await anyio.sleep(LOOK)

    async def _check_some(self) -> None:
        """Make some of the reports that may be out of date, the newest first; the others next time.

        Most are not; then this costs reading the experiment's records and one small file.
        """
        if self._unchecked and time.monotonic() < self._check_from:
            return
        end = time.monotonic() + _CHECKING
        while self._unchecked and time.monotonic() < end:
            identifier = self._unchecked.pop()
            if identifier not in self._behind:
                await self._write(identifier)

    async def finish(self) -> None:
        """Make all due reports, at the end of a single pass. Raise `HaltedForSafety`."""
        self._note()
        for identifier in self._behind.waiting():
            await self._write(identifier)
        await self._index.finish()
        with anyio.move_on_after(_END):
            while self._undrawn:
                await self._draw(next(iter(self._undrawn)))

    def _note(self) -> None:
        """Collect changes: of files, of directories, and of facts about runs whose files are already here."""
        knowledge = self._context.catalogue.knowledge
        if self._noted != knowledge.version:
            self._noted = knowledge.version
            self._note_runs(knowledge)
        if self._context.changes.reports:
            self._index.changed()
        self._behind.note(self._context.changes.reports, time.monotonic())

    def _note_runs(self, knowledge: PlanningIndex) -> None:
        for run in knowledge.runs():
            facts = (run.experiment, run.step, run.config, run.final, run.problem)
            if run.experiment is not None and self._runs.get(run.id, facts) != facts:
                self._context.changes.reports.add(run.experiment)
            self._runs[run.id] = facts

    async def _known(self, identifier: str) -> Known:
        files = await self._context.catalogue.files.files_of(identifier)
        knowledge = self._context.catalogue.knowledge
        return Known(
            knowledge.experiment(identifier),
            tuple(knowledge.runs_of(identifier)),
            tuple(files),
            tuple(self._context.catalogue.left_out.of(identifier)),
        )

    @contextmanager
    def _containing(self, identifier: str) -> Iterator[None]:
        """Contain an unexpected exception of one report, which is retried after a pause that doubles."""
        with self._context.service_failures.containing("reports", experiment=identifier):
            try:
                yield
            except Exception:
                self._failures[identifier] = failures = self._failures.get(identifier, 0) + 1
                self._behind.postpone(identifier, time.monotonic() + backoff(EVERY, failures, _LONGEST_PAUSE))
                self._context.changes.reports.add(identifier)
                raise
            self._failures.pop(identifier, None)

    async def _write(self, identifier: str) -> None:
        self._behind.begin(identifier)
        with self._containing(identifier):
            await self._write_known(identifier)

    async def _write_known(self, identifier: str) -> None:
        async with self._context.directory_lock.still():
            known = await self._known(identifier)
            if known.experiment.gone or not known.files:
                return
            self._behind.worked(identifier, time.monotonic())
            try:
                written = await anyio.to_thread.run_sync(making.write, self._root, known, self._context.evals)
            except FileNotFoundError:
                return  # removed by the operator; `directories` detects it
            except (DiskFull, Retry):
                # The transfers report this; the report is made when there is room, or a descriptor, again.
                self._context.changes.reports.add(identifier)
                return
            except (Conflict, Refused, Damaged) as e:
                self._log_failure(known, e)
                return
        if written.changed:
            self._log_written(known)
        if written.needs_pictures and self._draws():
            self._undrawn[identifier] = written.placed

    def _draws(self) -> bool:
        if not self._context.settings.report.pictures:
            return False
        if analysis.can_draw():
            return True
        if not self._is_plain_logged:
            self._is_plain_logged = True
            get_logger().info(Event.REPORT_PLAIN, hint=_WITHOUT)
        return False

    async def _draw(self, identifier: str) -> None:
        placed = self._undrawn.pop(identifier)
        with self._containing(identifier):
            await self._draw_known(identifier, placed)

    async def _draw_known(self, identifier: str, placed: Placed) -> None:
        known = await self._known(identifier)
        if known.experiment.gone:
            return
        began = time.monotonic()
        try:
            drawing = await making.draw(self._root, known, placed, analysis.cache_in(self._context.settings.state))
            self._may_draw = time.monotonic() + REST * (time.monotonic() - began)
            async with self._context.directory_lock.still():
                known = await self._known(identifier)
                await anyio.to_thread.run_sync(making.publish_pictures, self._root, known, drawing, self._context.evals)
        except FileNotFoundError:
            return
        except (Retry, DiskFull) as e:
            self._log_failure(known, e)
            self._draw_later(identifier)
            return
        except (Conflict, Refused, Damaged) as e:
            self._log_failure(known, e)
            return
        self._log_written(known)
        if drawing.drawn.late:
            self._draw_later(identifier)
        else:
            self._undone.pop(identifier, None)
        for script, error in drawing.drawn.failed.items():
            self._log_failure(known, Refused(error, hint=_DRAW_NOW if drawing.drawn.late else ""), script)
        for key in [each for each in self._logged if each[0] == identifier]:
            if key[1] not in drawing.drawn.failed:
                del self._logged[key]

    def _draw_later(self, identifier: str) -> None:
        """Retry an experiment's pictures after a pause that doubles: this machine was too busy, or its disk full."""
        self._undone[identifier] = times = self._undone.get(identifier, 0) + 1
        self._behind.postpone(identifier, time.monotonic() + backoff(EVERY, times, _LONGEST_PAUSE))
        self._context.changes.reports.add(identifier)

    def _log_written(self, known: Known) -> None:
        directory = known.experiment.directory
        get_logger().debug(Event.REPORT_WRITTEN, experiment=known.experiment.id, path=directory)

    def _log_failure(self, known: Known, error: HarvestError, script: str = "") -> None:
        """Log a failure as a warning; a repeated one for debugging only."""
        key = (known.experiment.id, script)
        same = self._logged.get(key) == str(error)
        self._logged[key] = str(error)
        log = get_logger().bind(experiment=known.experiment.id, path=known.experiment.directory)
        (log.debug if same else log.warning)(
            Event.REPORT_FAILED, script=script or None, error=str(error), hint=error.hint or None
        )
