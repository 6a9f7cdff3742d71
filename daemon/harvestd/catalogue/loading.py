"""Loads records of files from the database into memory when they are needed, and drops them when they are not.

The files of past experiments stay in the database. What connected hosts show, and what is being written, is loaded:
each user has a lease on the sections and storages that it needs. A section is only changed while it is loaded.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
from sqlalchemy import Connection

from harvestd.catalogue import stored_files
from harvestd.catalogue.engine import Database
from harvestd.convention.paths import LocalPath
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import FileRecord, NotLoaded, Section

KEPT: Final = 600.0
"""Seconds for which a section that nothing needs stays in memory: a host that was lost is often back soon."""
_AT_ONCE: Final = 2_000
"""Files that are read, added or dropped without giving other tasks a turn: some 20 ms."""
_SECTIONS: Final = 64
"""Sections that are loaded together."""

_Result = TypeVar("_Result")


class Lease:
    """Keeps sections, and all files from storages, in memory until it is released."""

    def __init__(self, loader: "FileLoader") -> None:
        """Use `FileLoader.lease` instead."""
        self._loader = loader
        self.sections: set[Section] = set()
        self.storages: set[str] = set()

    async def load(self, sections: Collection[Section] = (), storages: Collection[str] = ()) -> None:
        """Load these, unless they are loaded, and keep them. Raise `HaltedForSafety` if the database can't be read."""
        self.sections.update(sections)
        self.storages.update(storages)
        await self._loader.load(self, sections, storages)

    async def evaluated(self, function: Callable[[], _Result]) -> _Result:
        """Return what `function` returns, which reads the index, after loading everything that it needs."""
        while True:
            try:
                return function()
            except NotLoaded as e:
                await self.load(e.sections, e.storages)

    async def rest(self) -> None:
        """Need nothing for now, and drop at once what no other lease needs."""
        sections, storages = self.sections, self.storages
        self.sections, self.storages = set(), set()
        await self._loader.drop(sections, storages)

    def release(self) -> None:
        """End the lease: what it kept is dropped some time later, unless others need it."""
        self._loader.leases.discard(self)


class FileLoader:
    """Loads and drops sections of one catalogue; reads single records without loading them."""

    def __init__(self, database: Database, knowledge: PlanningIndex) -> None:
        self._database = database
        self._knowledge = knowledge
        self._lock = anyio.Lock()
        """Held while sections are loaded or dropped."""
        self.leases: set[Lease] = set()
        self._unused: dict[Section, float] = {}
        """Since when each section in memory is not needed, in monotonic seconds, as far as it was noticed."""

    def lease(self) -> Lease:
        """Return a new lease, on nothing yet; its owner releases it."""
        made = Lease(self)
        self.leases.add(made)
        return made

    @asynccontextmanager
    async def loaded(self, sections: Collection[Section]) -> AsyncIterator[Lease]:
        """Keep these sections in memory during the body. Raise `HaltedForSafety` if the database can't be read."""
        lease = self.lease()
        try:
            await lease.load(sections)
            yield lease
        finally:
            lease.release()

    async def load(self, lease: Lease, sections: Collection[Section], storages: Collection[str]) -> None:
        """Load what is missing of these, for a lease that has them already."""
        try:
            self._knowledge.require(sections, storages)
        except NotLoaded as missing:
            for storage in sorted(missing.storages):
                await self._load_storage(lease, storage)
            await self._load_sections(missing.sections)

    async def _load_storage(self, lease: Lease, storage: str) -> None:
        """Load the sections of all files from a storage, and those of its runs.

        A file that comes from it meanwhile is recorded in a loaded section, which stays because of the lease.
        """
        after: stored_files.Position | None = stored_files.BEGINNING
        while after is not None:
            query = partial(stored_files.sections_from, storage=storage, after=after, most=_AT_ONCE)
            found, after = await self._database.read(query)
            lease.sections.update(found)
        lease.sections.update(self._knowledge.sections_of_storages([storage]))
        await self._load_sections(lease.sections)
        self._knowledge.mark_complete(storage)

    async def _load_sections(self, sections: Iterable[Section]) -> None:
        wanted = set(sections)
        while True:
            async with self._lock:
                batch = sorted(self._knowledge.unloaded(wanted))[:_SECTIONS]
                if not batch:
                    return
                ranges: Sequence[stored_files.Range] = await self._database.read(partial(_ranges, sections=batch))
                while ranges:
                    files, ranges = await self._database.read(partial(stored_files.read, ranges=ranges, most=_AT_ONCE))
                    for file in files:
                        self._knowledge.load_file(file)
                for section in batch:
                    self._knowledge.mark_loaded(section)

    async def drop_unused(self, now: float) -> None:
        """Drop the sections that have not been needed for `KEPT` seconds; `now` is in monotonic seconds."""
        async with self._lock:
            await self._drop(self._due(now))

    async def drop(self, sections: Collection[Section], storages: Collection[str]) -> None:
        """Drop these sections, and those of all files from `storages`, as far as no lease needs them."""
        async with self._lock:
            unneeded = self._knowledge.sections_of_storages(storages).union(sections) - self._needed()
            await self._drop(sorted(unneeded))

    async def _drop(self, sections: Sequence[Section]) -> None:
        for section in sections:
            self._knowledge.unload(section)
        for section in sections:
            self._unused.pop(section, None)
            while self._knowledge.drop_unloaded(section, _AT_ONCE):
                await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()

    def _needed(self) -> set[Section]:
        storages = {storage for lease in self.leases for storage in lease.storages}
        return self._knowledge.sections_of_storages(storages).union(*(lease.sections for lease in self.leases))

    def _due(self, now: float) -> list[Section]:
        needed = self._needed()
        unused = [section for section in self._knowledge.sections_with_files() if section not in needed]
        self._unused = {section: self._unused.get(section, now) for section in unused}
        return [section for section, since in self._unused.items() if now - since >= KEPT]

    async def files_of(self, experiment: str | None) -> list[FileRecord]:
        """Return the files of an experiment (None: those in `_unfiled`); they need not be loaded, and are not then."""
        try:
            return self._knowledge.files_of(experiment)
        except NotLoaded:
            found: list[FileRecord] = []
            ranges: Sequence[stored_files.Range] = stored_files.all_of(experiment)
            while ranges:
                files, ranges = await self._database.read(partial(stored_files.read, ranges=ranges, most=_AT_ONCE))
                found += files
            return found

    async def sizes_from(self, storage: str) -> list[stored_files.StoredSize]:
        """Return the sizes of all files from a storage; they need not be loaded, and are not then."""
        return await self._database.read(partial(stored_files.sizes_from, storage=storage))

    async def holder(self, target: LocalPath) -> FileRecord | None:
        """Return the record of the file at `target`, which need not be loaded; None if there is none."""
        try:
            return self._knowledge.holder(target)
        except NotLoaded:
            return await self._database.read(partial(stored_files.file_at, target=target))

    async def experiment_below(self, storage: str, place: str) -> str | None:
        """Return an experiment with files from below an absolute path on a storage; None if there is none."""
        query = partial(stored_files.experiments_below, storage=storage, place=place)
        return next(iter(await self._database.read(query)), None)

    async def experiments_with_files(self) -> set[str]:
        """Return the experiments that have any file."""
        return set(await self._database.read(stored_files.experiments))


def _ranges(connection: Connection, sections: Iterable[Section]) -> list[stored_files.Range]:
    return [each for section in sections for each in stored_files.ranges(connection, section)]
