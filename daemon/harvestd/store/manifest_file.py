"""Reads and writes `manifest.json`.

The file may have been edited by hand, so every value is checked; an invalid one is `Damaged` with its place. A manifest
of a newer format is not interpreted and not replaced: it is `Fatal`.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from harvestd.convention.paths import LocalPath
from harvestd.errors import Fatal
from harvestd.json_text import indented_json, json_value
from harvestd.store.errors import Damaged, shown, translating
from harvestd.store.manifest_model import (
    FORMAT,
    Experiment,
    Fields,
    FiledFile,
    FileState,
    LeftOut,
    MadeLink,
    Manifest,
    NamePart,
    Run,
)
from harvestd.store.ops.remove import write_own
from harvestd.store.root import DataRoot

NAME: Final = "manifest.json"
_LIMIT: Final = 256 << 20
"""Bytes; enough for some hundred thousand files."""

_HEAD: Final = re.compile(rb'\{\s*"format":\s*(\d{1,9}),\s*"experiment":\s*\{\s*"id":\s*"([ -!#-\[\]-~]*)"')
_HEAD_SIZE: Final = 4096
_HINT: Final = "set it aside; harvestd writes a new one from the catalogue"


def write_manifest(root: DataRoot, directory: LocalPath, manifest: Manifest) -> None:
    """Write the manifest of the experiment at `directory` atomically; raise errors as `write_own` does."""
    write_own(root, directory / NAME, to_json(manifest))


def read_manifest(root: DataRoot, directory: LocalPath) -> Manifest | None:
    """Return the manifest of the experiment at `directory`; None if there is none.

    Raise `Damaged` if it is invalid, `Fatal` if a newer harvestd wrote it, `Conflict` for a link.
    """
    try:
        content = root.read(directory / NAME, _LIMIT)
    except FileNotFoundError:
        return None
    return from_json(content, shown(directory / NAME))


def manifest_owner(root: DataRoot, directory: LocalPath) -> str | None:
    """Return the id of the experiment whose manifest is in `directory`; None if there is none.

    Of a manifest written by harvestd only the beginning is read. Raise errors as `read_manifest` does.
    """
    place = directory / NAME
    try:
        with translating(place), root.reading(place) as file:
            head = _HEAD.match(file.read(_HEAD_SIZE))
    except FileNotFoundError:
        return None
    if head is not None and int(head[1]) <= FORMAT:
        return head[2].decode("ascii")
    manifest = read_manifest(root, directory)
    return manifest.experiment.id if manifest is not None else None


def to_json(manifest: Manifest) -> bytes:
    """Return the file's content; it does not depend on the order of the entries."""
    experiment = manifest.experiment
    head = {
        "id": experiment.id,
        "directory": experiment.directory,
        "name": {part: {"value": said.value, "source": said.source} for part, said in sorted(experiment.name.items())},
    }
    runs = [
        {"id": run.id, "host": run.host, "storage": run.storage, "path": run.path, "name": run.name}
        for run in sorted(manifest.runs)
    ]
    left_out = [
        _left_out_to_json(one) for one in sorted(manifest.left_out, key=lambda one: (one.host, one.path, one.reason))
    ]
    files = [_file_to_json(file) for file in sorted(manifest.files, key=lambda file: (file.path, file.host))]
    document = {
        "format": FORMAT,
        "experiment": head,
        "runs": runs,
        "files": files,
        "left_out": left_out,
        "links": [{"path": link.path, "target": link.target} for link in sorted(manifest.links)],
        "aliases": list(manifest.aliases),
    }
    return indented_json(document).encode("ascii") + b"\n"


def _left_out_to_json(one: LeftOut) -> dict[str, object]:
    known: dict[str, object] = {
        "host": one.host,
        "path": one.path,
        "size": one.size,
        "entries": one.entries,
        "reason": one.reason,
    }
    if one.gone_at is None:
        return known
    return {**known, "gone_at": _to_the_millisecond(datetime.fromtimestamp(one.gone_at, UTC))}


def _file_to_json(file: FiledFile) -> dict[str, object]:
    return {
        "path": file.path,
        "kind": file.kind,
        "size": file.size,
        "sha256": file.sha256,
        "state": file.state.value,
        "host": file.host,
        "storage": file.storage,
        "remote_path": file.remote_path,
        # For people; programs use `mtime_ns`, although some JSON readers round it.
        "mtime": _rfc3339(file.mtime_ns),
        "mtime_ns": file.mtime_ns,
        "fetched_at": _to_the_millisecond(file.fetched_at),
        "reason": file.reason,
        "marker": file.marker,
    }


@lru_cache(maxsize=256)
def _to_the_millisecond(time: datetime) -> str:
    # Files that were published together have the same time.
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rfc3339(nanoseconds: int) -> str | None:
    """Return a time with nanoseconds; None if it is out of range (a host may send any number)."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    second = _to_the_second(seconds)
    return None if second is None else f"{second}.{fraction:09}Z"


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str | None:
    # The files of one or many leaves were often written within one second.
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (ValueError, OverflowError, OSError):
        return None


def from_json(content: bytes, place: str = NAME) -> Manifest:
    """Return the manifest in the file's content; raise `Damaged` if it is invalid, `Fatal` for a newer format."""
    try:
        top = Fields(json_value(content), place)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{place} is no JSON text", hint=_HINT) from error
    number = top.integer("format")
    if number > FORMAT:
        raise Fatal(f"{place} has format {number}, this harvestd knows {FORMAT}", hint="upgrade harvestd")
    return Manifest(
        experiment=_experiment(top.below("experiment")),
        runs=tuple(_run(one) for one in top.each("runs")),
        files=tuple(_file(one) for one in top.each("files")),
        left_out=tuple(_left_out(one) for one in top.each("left_out")),
        links=tuple(MadeLink(one.text("path"), one.text("target")) for one in top.each("links")),
        aliases=top.texts("aliases"),
    )


def _experiment(fields: Fields) -> Experiment:
    parts = fields.below("name")
    named = ((part, parts.below(part)) for part in parts.names())
    return Experiment(
        fields.text("id"),
        fields.text("directory"),
        {part: NamePart(said.text("value"), said.text("source")) for part, said in named},
    )


def _run(fields: Fields) -> Run:
    identifier = fields.text_or_empty("id")
    return Run(fields.text("host"), fields.text("storage"), fields.text("path"), fields.text("name"), identifier)


def _file(fields: Fields) -> FiledFile:
    try:
        return FiledFile(
            path=str(LocalPath.parse(fields.text("path"))),
            kind=fields.text("kind"),
            size=fields.integer("size"),
            sha256=fields.text("sha256"),
            state=FileState(fields.text("state")),
            host=fields.text("host"),
            storage=fields.text("storage"),
            remote_path=fields.text("remote_path"),
            mtime_ns=fields.integer("mtime_ns"),
            fetched_at=datetime.fromisoformat(fields.text("fetched_at")),
            reason=fields.text("reason"),
            marker=fields.truth_or_false("marker"),
        )
    except ValueError as error:
        raise Damaged(f"{fields.place}: {error}", hint=_HINT) from error


def _moment(fields: Fields, name: str) -> float | None:
    text = fields.text_or_empty(name)
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except (ValueError, OverflowError) as error:
        raise Damaged(f"{fields.place}: {error}", hint=_HINT) from error


def _left_out(fields: Fields) -> LeftOut:
    return LeftOut(
        host=fields.text("host"),
        path=fields.text("path"),
        reason=fields.text("reason"),
        size=fields.integer_or_null("size"),
        entries=fields.integer_or_null("entries"),
        gone_at=_moment(fields, "gone_at"),
    )
