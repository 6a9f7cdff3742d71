"""Write an experiment's report: scripts and README in one step, the pictures in another.

The hashes in the README (`readme.Marks`) show what is up to date, so that an unchanged experiment costs only reading
some small files. Nothing is created in place of a directory that a person removed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harvestd.convention.paths import ANALYSIS, README, LocalPath
from harvestd.convention.structs import Immutable
from harvestd.report import analysis, readme, small_files
from harvestd.report.analysis import Drawn, Placed
from harvestd.report.facts import Facts, gather
from harvestd.report.readme import Marks
from harvestd.report.scripts.experiment import CONFIGURED
from harvestd.report.small_files import Evals, Known
from harvestd.store import workshop
from harvestd.store.remove import write_inside
from harvestd.store.root import DataRoot

_LARGEST = 8 << 20
"""Bytes of a README or of configured.json; a larger one is not changed."""


class Written(Immutable):
    """The state of a report after its README was written."""

    marks: Marks
    """The marks in the README now."""
    current: str
    """The hash of the pictures' present inputs."""
    placed: Placed
    changed: bool
    """Whether anything was written."""

    @property
    def needs_pictures(self) -> bool:
        """Whether the pictures were drawn from other inputs."""
        return self.marks.pictures != self.current


class Drawing(Immutable):
    """The result of the scripts, not published yet."""

    mark: str
    """The hash of the inputs that the pictures were drawn from."""
    drawn: Drawn


def write(root: DataRoot, known: Known, reader: Evals) -> Written:
    """Update an experiment's scripts, configured.json and README; blocks.

    Raise FileNotFoundError where its directory is gone, `Conflict`, `Refused` and `Damaged` where the README's path is
    no readable file, `Retry`, `DiskFull` and `HaltedForSafety`.
    """
    given = analysis.scripts()
    placed = analysis.place(root, known.directory, given)
    before = _content_of(root, known.directory / README)
    had = readme.marks_in(before)
    of_scripts = analysis.mark(given)
    marks = Marks(known.mark(of_scripts), had.pictures if had else Marks().pictures)
    if marks == had and _content_of(root, known.directory.child(*CONFIGURED)):
        return Written(marks, known.mark_of_pictures(of_scripts), placed, changed=bool(placed.written))
    changed = _put(root, known, before, marks, _facts(root, known, given, reader))
    return Written(marks, known.mark_of_pictures(of_scripts), placed, changed=changed or bool(placed.written))


async def draw(root: DataRoot, known: Known, placed: Placed, cache: Path) -> Drawing:
    """Draw an experiment's pictures; write nothing there. Raise `Retry` where there is no temporary directory.

    `cache` is matplotlib's own directory, see `analysis.draw`. The picture of a script that a person edited is theirs;
    with an edited shared module all pictures are.
    """
    given = analysis.scripts()
    startable = analysis.startable(given)
    ours = () if placed.edited - set(startable) else tuple(name for name in startable if name not in placed.edited)
    mark = known.mark_of_pictures(analysis.mark(given))
    return Drawing(mark, await analysis.draw(workshop.place_to_read(root, known.directory), ours, cache))


def publish_pictures(root: DataRoot, known: Known, drawing: Drawing, reader: Evals) -> None:
    """Publish pictures that are new, and show them in the README; blocks, and raise as `write`.

    A script that failed is run again when something changes, or on request; one that was late, at any time.
    """
    for name, content in drawing.drawn.pictures.items():
        if not _is_there(root, known.directory.child(ANALYSIS, name), content):
            write_inside(root, known.directory, (ANALYSIS, name), content)
    given = analysis.scripts()
    before = _content_of(root, known.directory / README)
    had = readme.marks_in(before) or Marks()
    # Pictures that were late are drawn again, although nothing changed.
    marks = Marks(known.mark(analysis.mark(given)), had.pictures if drawing.drawn.late else drawing.mark)
    _put(root, known, before, marks, _facts(root, known, given, reader))


def _is_there(root: DataRoot, path: LocalPath, content: bytes) -> bool:
    try:
        return root.sha256(path) == hashlib.sha256(content).hexdigest()
    except FileNotFoundError:
        return False


def _content_of(root: DataRoot, path: LocalPath) -> bytes:
    try:
        return root.read(path, _LARGEST)
    except FileNotFoundError:
        return b""


def _facts(root: DataRoot, known: Known, given: Mapping[str, bytes], reader: Evals) -> Facts:
    return gather(root, known, analysis.startable(given), reader)


def _put(root: DataRoot, known: Known, before: bytes, marks: Marks, facts: Facts) -> bool:
    """Write configured.json and the README where they change; return whether one was written.

    The README is written last: its marks mean that both are complete.

    If a person saves the README between this read and this write, their change is lost; an editor that still has it
    open wins when it saves next, and only the generated part is made again.
    """
    document = small_files.configured_json(facts.configured)
    changed = _content_of(root, known.directory.child(*CONFIGURED)) != document
    if changed:
        write_inside(root, known.directory, CONFIGURED, document)
    after = readme.with_part(before, marks, readme.rendered(facts))
    if after == before:
        return changed
    write_inside(root, known.directory, (README,), after)
    return True
