"""Explain where a local file came from, and why something on a host is not here, from the catalogue alone."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli.output import lists, units
from harvestd.cli.output.page import Page
from harvestd.cli.show_details import file_document
from harvestd.convention.paths import RESERVED, is_report
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.json_text import timestamp
from harvestd.planning.records import FileRecord

_REMOTE = re.compile(r"(?P<host>[^/:]+):(?P<place>/.*)", re.DOTALL)


class RemotePlace(Immutable):
    """A path on a host."""

    place: str
    """An absolute path."""
    host: str | None = None
    """None: on any host that has it."""

    def __str__(self) -> str:
        return f"{self.host}:{self.place}" if self.host else self.place


class LocalPlace(Immutable):
    """A path below the data root."""

    path: str
    """Relative to it; empty for the data root itself."""
    exists: bool


def place_of(text: str, data_root: Path) -> RemotePlace | LocalPlace:
    """Return the meaning of `text`: `HOST:/PATH`, an absolute path here or on a host, or a relative one.

    A relative path starts in the working directory where that is below the data root, otherwise in the data root
    itself.
    """
    remote = _REMOTE.fullmatch(text)
    if remote:
        return RemotePlace(posixpath.normpath(remote["place"]), remote["host"])
    found = list(_local(text, data_root, (Path.cwd(), data_root)))
    if not found:
        return RemotePlace(posixpath.normpath(text))
    return next((place for place in found if place.exists), found[0])


def local_place(path: str, data_root: Path) -> LocalPlace:
    """Return the place at `path`, which is relative to the data root."""
    return next(_local(path, data_root, (data_root,)))


def _local(text: str, data_root: Path, starts: Iterable[Path]) -> Iterator[LocalPlace]:
    for start in starts:
        path = Path(os.path.normpath(start / text))
        # For a link the link itself is meant, so only its parent is resolved.
        for candidate, root in ((path, data_root), (path.parent.resolve() / path.name, data_root.resolve())):
            if candidate.is_relative_to(root):
                relative = candidate.relative_to(root).as_posix()
                yield LocalPlace("" if relative == "." else relative, os.path.lexists(candidate))


_MANIFEST = "manifest.json"


class Explanation(Immutable):
    """What is known of a path."""

    asked: str
    files: tuple[FileRecord, ...] = ()
    """The file itself, or its copies; or those below a directory."""
    is_directory: bool = False
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    """As (host, entry): the path itself, a directory above it, or entries below it."""
    note: str = ""
    """For a file that harvestd wrote itself."""


def explain_local(connection: Connection, place: LocalPlace) -> Explanation:
    """Explain a path below the data root; raise `Fatal` (4) where it is unknown."""
    path = place.path
    first, _, rest = path.partition("/")
    if first == RESERVED:
        return Explanation(path, note="harvestd's own directory: the catalogue, staging, older versions")
    if rest == _MANIFEST and (place.exists or _is_directory_of_ours(connection, first)):
        gone = "" if place.exists else "; it is not on the disk now"
        note = f"written by harvestd: every file of the experiment, and what was left out{gone}"
        return Explanation(path, note=note)
    if is_report(rest.split("/")) and place.exists:
        return Explanation(path, note="of the experiment's report, which `harvestd report` makes; people may add to it")
    link = queries.link_at(connection, path)
    if link is not None:
        return Explanation(path, note=f"a link that harvestd made, to {link}, as it stands on the box")
    file = queries.file_at(connection, path)
    if file is not None:
        gone = "" if place.exists else "it is not on the disk any more"
        return Explanation(path, (file,), note=gone)
    below = queries.files_below(connection, path) if path else queries.all_files(connection)
    if below:
        return Explanation(path or ".", tuple(below), is_directory=True)
    what = "was not filed by harvestd" if place.exists else "does not exist, and never did as far as is known"
    raise Fatal(
        f"{path or 'the data root'} {what}",
        hint="a path on a box is written HOST:/PATH; `harvestd show NAME` lists an experiment's files",
        exit_code=ExitCode.UNKNOWN_NAME,
    )


def path_now(connection: Connection, path: str) -> str:
    """Return the present path of one below the data root, where its experiment was renamed; otherwise `path`."""
    first, slash, rest = path.partition("/")
    if _is_directory_of_ours(connection, first):
        return path
    found = [each.directory for each in queries.experiments(connection).values() if first in each.aliases]
    return f"{found[0]}{slash}{rest}" if len(found) == 1 else path


def _is_directory_of_ours(connection: Connection, name: str) -> bool:
    return any(each.directory == name for each in queries.experiments(connection).values())


def explain_remote(connection: Connection, place: RemotePlace) -> Explanation:
    """Explain a path on a host; raise `Fatal` (4) where it is unknown."""

    def here(files: Sequence[FileRecord]) -> tuple[FileRecord, ...]:
        return tuple(file for file in files if place.host in {None, file.host})

    def out(found: Sequence[tuple[str, LeftOut]]) -> tuple[tuple[str, LeftOut], ...]:
        return tuple((host, each) for host, each in found if place.host in {None, host})

    files = here(queries.files_from(connection, place.place))
    omitted = out(queries.left_out_at(connection, place.place))
    if files or omitted:
        return Explanation(str(place), files, left_out=omitted)
    below = here(queries.files_from_below(connection, place.place))
    omitted = out(queries.left_out_below(connection, place.place))
    if below or omitted:
        return Explanation(str(place), below, is_directory=True, left_out=omitted)
    asked = [each for each in queries.requests(connection) if each.is_open and each.is_for(place.place)]
    if asked:
        return Explanation(str(place), note=f"{asked[0].reason}, and not here yet")
    raise Fatal(
        f"nothing is known of {place}",
        hint="`harvestd plan` says what waits until it is complete, and looks at the boxes anew",
        exit_code=ExitCode.UNKNOWN_NAME,
    )


def write(page: Page, found: Explanation) -> None:
    """Write the page."""
    page.heading(found.asked)
    if found.note:
        page.line(f"  {found.note}")
    if found.is_directory:
        _write_directory(page, found)
        return
    for file in found.files:
        modified = timestamp(file.version.mtime_ns / 1e9)
        page.line(f"  here as    {file.target}, {units.size(file.size)}")
        page.line(f"  from       {file.host}:{file.place}")
        page.line(f"  version    {units.size(file.version.size)}, modified {modified}")
        page.line(f"  sha256     {file.sha256}")
        page.line(f"  fetched    {timestamp(file.fetched_at)} ({units.age(file.fetched_at)})")
        page.line(f"  because    {file.reason}")
    for host, each in found.left_out:
        page.line(f"  left out   {host}:{each.place}, {units.size(each.size)}")
        page.line(f"  because    {lists.left_out_reason(each)}")


def _write_directory(page: Page, found: Explanation) -> None:
    size = units.size(sum(file.size for file in found.files))
    hosts = ", ".join(sorted({file.host for file in found.files}))
    if found.files:
        page.line(f"  {units.count(len(found.files), 'file')} here, {size}, from {hosts}")
        places = sorted({file.target.parts[0] for file in found.files})
        for place in places:
            page.line(f"  in {place}")
    if found.left_out:
        omitted = [each for _, each in found.left_out]
        page.line(f"  {len(omitted)} left out, {lists.left_out_total(omitted)}")
        for reason in sorted({each.reason for each in omitted}):
            page.line(f"  because    {reason}")


def document(found: Explanation) -> dict[str, object]:
    """Return the JSON document; sizes in bytes."""
    return {
        "asked": found.asked,
        "directory": found.is_directory,
        "note": found.note or None,
        "files": [file_document(file) for file in found.files],
        "left_out": [{"host": host, **lists.left_out_documents([each])[0]} for host, each in found.left_out],
    }
