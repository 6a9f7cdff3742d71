"""Keeps an index of each experiment's log up to date, for the curves of its run.

A log that grows by little is indexed when its curves are asked for. One that is a MiB ahead of its index is indexed in
the background, a slice at a time. Indexes are saved in the state directory, so that the first answer after a restart
reads only what was appended since. Few of them are in memory: those that were used last, up to `_MEMORY` bytes.
"""

from collections import OrderedDict
from datetime import UTC
from typing import Final

import anyio
import anyio.to_thread

from harvestd.convention.kinds import run_name
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.harvest.context import Context
from harvestd.planning.records import RunRecord
from harvestd.series.reading import LARGEST_DUMP, PIECE, IndexedLog, Question
from harvestd.store.caches import CacheDirectory
from harvestd.store.root import DataRoot

_LOG: Final = ("training_run", "logs", "train_log.jsonl")
"""Relative to the experiment's directory."""
_LOOK: Final = 1.0
"""Seconds between two looks at which logs changed."""
_ANSWER: Final = 0.3
"""Seconds of indexing before an answer; then the answer is about what was indexed so far."""
_SLICE: Final = 0.1
_REST: Final = 0.02
"""Seconds of indexing in the background without a pause, and of the pause."""
_LAST_SAVES: Final = 2.0
_FAR_BEHIND: Final = 1 << 20
_UNSAVED: Final = 8 << 20
"""Bytes of a log, which take less than 0.1 s to index again."""
_MEMORY: Final = 12_000_000
_MOMENTS: Final = 500
"""Times of steps that are kept for a log until its index is in memory."""


class LogIndexes:
    """The indexes of all logs. Used in the event loop only."""

    def __init__(self, context: Context, root: DataRoot, cache: CacheDirectory) -> None:
        self._context = context
        self._root = root
        self._cache = cache
        self._loaded: OrderedDict[str, IndexedLog] = OrderedDict()
        """By experiment, the one that was used last at the end."""
        self._loading = anyio.Lock()
        self._indexed: dict[str, int] = {}
        """How many bytes of each log are indexed, as far as this process has seen its index."""
        self._moments: dict[str, list[tuple[int, float]]] = {}
        """When steps were read, by experiment, for the next use of its index."""
        self._behind: set[str] = set()
        """Experiments to be indexed in the background."""

    async def run(self) -> None:
        """Index in the background until cancelled; then save what is in memory."""
        knowledge = self._context.catalogue.knowledge
        names = frozenset(experiment.id for experiment in knowledge.experiments())
        await anyio.to_thread.run_sync(self._cache.keep, names)
        try:
            while True:
                await anyio.sleep(_LOOK)
                await self._look()
                for experiment in list(self._behind):
                    await self._index(experiment)
        finally:
            with anyio.move_on_after(_LAST_SAVES, shield=True):
                for experiment, log in list(self._loaded.items()):
                    if log.unsaved:
                        await self._save(experiment, log)

    async def answer(self, experiment: str | None, question: Question) -> bytes:
        """Return the answer as `IndexedLog.answer` does; without curves where no log is here. Raise `HarvestError`."""
        path = None if experiment is None else self._path(experiment)
        if experiment is None or path is None:
            return IndexedLog().answer(question)
        log = await self._log(experiment)
        await anyio.to_thread.run_sync(log.catch_up, self._root, path, _ANSWER)
        self._note(experiment, log)
        if log.behind > _FAR_BEHIND:
            self._behind.add(experiment)
        return await anyio.to_thread.run_sync(log.answer, question)

    async def _look(self) -> None:
        """Note when logs reached their newest steps, and find those that are far ahead of their indexes."""
        changed, self._context.changes.logs = self._context.changes.logs, set()
        for experiment in changed:
            path = self._path(experiment)
            if path is None:
                continue
            self._observe(experiment, self._context.catalogue.knowledge.runs_of(experiment))
            found = await anyio.to_thread.run_sync(self._root.stat, path)
            if found is not None and abs(found.st_size - self._indexed.get(experiment, 0)) > _FAR_BEHIND:
                self._behind.add(experiment)

    def _observe(self, experiment: str, runs: list[RunRecord]) -> None:
        moments = self._moments.setdefault(experiment, [])
        for run in runs:
            is_known = moments and moments[-1][0] == run.step
            if run.step is None or run.step_at is None or run.is_over or is_known:
                continue
            moments.append((run.step, run.step_at))
        if len(moments) > _MOMENTS:
            del moments[1:-1:2]

    async def _index(self, experiment: str) -> None:
        """Index one log to its end, with pauses."""
        self._behind.discard(experiment)
        log = await self._log(experiment)
        while (path := self._path(experiment)) is not None:
            await anyio.to_thread.run_sync(log.catch_up, self._root, path, _SLICE)
            self._note(experiment, log)
            if log.unsaved > _UNSAVED:
                await self._save(experiment, log)
            if log.behind < PIECE:
                return
            await anyio.sleep(_REST)

    async def _log(self, experiment: str) -> IndexedLog:
        """Return the index of an experiment's log, from memory or from where it was saved."""
        async with self._loading:
            log = self._loaded.get(experiment)
            if log is None:
                stored = await anyio.to_thread.run_sync(self._cache.read, experiment, LARGEST_DUMP)
                log = self._loaded[experiment] = await anyio.to_thread.run_sync(IndexedLog, stored)
            self._loaded.move_to_end(experiment)
            while len(self._loaded) > 1 and sum(each.size for each in self._loaded.values()) > _MEMORY:
                oldest, unused = self._loaded.popitem(last=False)
                if unused.unsaved:
                    await self._save(oldest, unused)
        return log

    def _note(self, experiment: str, log: IndexedLog) -> None:
        self._indexed[experiment] = log.length - log.behind
        runs = self._context.catalogue.knowledge.runs_of(experiment)
        self._observe(experiment, runs)
        # A run that goes on was watched since about its newest step; of one that is over nothing says when that was.
        began = [(0, at) for run in runs if not run.is_over and (at := _began(run)) is not None]
        log.observe(self._moments.pop(experiment, []), began[:1])

    async def _save(self, experiment: str, log: IndexedLog) -> None:
        content = await anyio.to_thread.run_sync(log.dump)
        await anyio.to_thread.run_sync(self._cache.write, experiment, content)

    def _path(self, experiment: str) -> LocalPath | None:
        knowledge = self._context.catalogue.knowledge
        if not knowledge.has_experiment(experiment):
            return None
        try:
            return LocalPath((knowledge.experiment(experiment).directory, *_LOG))
        except RejectedPath:
            return None


def _began(run: RunRecord) -> float | None:
    """Return when a run began, from its name; hosts are on UTC."""
    name = run_name(run.name)
    return None if name is None or name.started is None else name.started.replace(tzinfo=UTC).timestamp()
