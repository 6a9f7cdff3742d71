"""`manifest.json`: the origin of each file, and what is not here and why. Format 1.

A lost catalogue is rebuilt from it, so it is self-contained. The text is ASCII (names that are not UTF-8 are escaped
lone surrogates), indented, and equal for equal content.

It may have been edited by hand, so every value is checked (by hand, since validation libraries reject lone surrogates):
an invalid one is `Damaged` with its place. One of a newer format is not interpreted and not replaced: it is `Fatal`.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, cast

from msgspec import field

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.json_text import indented_json, json_value
from harvestd.store.errors import Damaged, shown, translating
from harvestd.store.remove import write_own
from harvestd.store.root import DataRoot

FORMAT: Final = 1
"""The format number. Fields may be added under the same number, but none may change its meaning."""


class FileState(StrEnum):
    """The relation of a file to its source."""

    SEALED = "sealed"
    """The complete content of its source at one time."""
    GROWING = "growing"
    """A prefix of a source that may still grow."""


class NamePart(Immutable):
    """One part of the experiment's name."""

    value: str
    source: str
    """Its origin, e.g. "operator's rule" or "config.yaml"."""


class Experiment(Immutable):
    """The experiment of the manifest."""

    id: str
    directory: str
    """The directory's name below the data root."""
    name: Mapping[str, NamePart] = field(default_factory=dict)
    """By the part's name: experiment_name, date, model, hardware, steps."""


class Run(Immutable, order=True):
    """One training run that is stored here."""

    host: str
    storage: str
    path: str
    """The absolute path on the host."""
    name: str
    id: str = ""
    """The catalogue's id; empty in manifests of earlier versions."""


class FiledFile(Immutable):
    """One local file."""

    path: str
    """Below the experiment's directory, with slashes; a valid `LocalPath`, which a reader must check."""
    kind: str
    """The convention's kind of the file."""
    size: int
    """Bytes."""
    sha256: str
    state: FileState
    host: str
    storage: str
    remote_path: str
    mtime_ns: int
    """The source's modification time, Unix time in nanoseconds; any number, since it comes from the host."""
    fetched_at: datetime
    """With time zone; stored in UTC."""
    reason: str = ""
    """The reason for keeping it, e.g. "provisional: the run died before step_final"."""
    marker: bool = False
    """Whether it is the marker of its group, whose presence means that the group is complete."""

    def __post_init__(self) -> None:
        """Raise ValueError for a time without a zone."""
        if self.fetched_at.tzinfo is None:
            raise ValueError("fetched_at needs a zone")

    def below(self, directory: LocalPath) -> LocalPath:
        """Return the file's local path for an experiment at `directory`; raise `RejectedPath` if it is invalid."""
        return LocalPath((*directory.parts, *self.path.split("/")))


class LeftOut(Immutable):
    """One entry on a host without a local copy; a directory that was not walked is one entry."""

    host: str
    path: str
    """The absolute path on the host."""
    reason: str
    """The rule that leaves it out."""
    size: int | None = None
    """Total bytes; None if unknown."""
    entries: int | None = None
    """The number of files; None if unknown."""
    gone_at: float | None = None
    """When it was found to be gone from the host, in Unix time; None: it existed at the last scan."""


class MadeLink(Immutable, order=True):
    """One local link that corresponds to a link on the host."""

    path: str
    """Below the experiment's directory, with slashes."""
    target: str
    """The name of its target in the same directory."""


class Manifest(Immutable):
    """The content of `manifest.json`."""

    experiment: Experiment
    runs: tuple[Run, ...] = ()
    files: tuple[FiledFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    links: tuple[MadeLink, ...] = ()
    aliases: tuple[str, ...] = ()
    """Earlier names of the directory, oldest first."""


class Fields:
    """The fields of one JSON object. Each method raises `Damaged` for a field that is missing or of another type."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise Damaged(f"{place} is not an object")
        self.place = place
        """The place of the object, for messages."""
        self._value = cast("dict[str, object]", value)  # keys of JSON are always strings

    def names(self) -> Iterable[str]:
        """Return the names of the fields, in their order."""
        return tuple(self._value)

    def text(self, name: str) -> str:
        """Return the text in the field `name`."""
        value = self._value.get(name)
        if not isinstance(value, str):
            raise Damaged(f"{self.place}: {name} is not a text")
        return value

    def text_or_empty(self, name: str) -> str:
        """Return the text in the field `name`; an empty text if there is no such field."""
        return self.text(name) if name in self._value else ""

    def truth_or_false(self, name: str) -> bool:
        """Return the boolean in the field `name`; False if there is no such field."""
        value = self._value.get(name, False)
        if not isinstance(value, bool):
            raise Damaged(f"{self.place}: {name} is neither true nor false")
        return value

    def integer(self, name: str) -> int:
        """Return the integer in the field `name`."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Damaged(f"{self.place}: {name} is not a whole number")
        return value

    def integer_or_null(self, name: str) -> int | None:
        """Return the integer in the field `name`; None for null or if there is no such field."""
        return None if self._value.get(name) is None else self.integer(name)

    def below(self, name: str) -> "Fields":
        """Return the object in the field `name`."""
        return Fields(self._value.get(name), f"{self.place}: {name}")

    def each(self, name: str) -> Iterable["Fields"]:
        """Return the objects of the list in the field `name`."""
        return [Fields(value, f"{self.place}: {name}[{index}]") for index, value in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the list of texts in the field `name`."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise Damaged(f"{self.place}: {name} is not a list of texts")
        return tuple(cast("list[str]", values))

    def _list(self, name: str) -> list[object]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise Damaged(f"{self.place}: {name} is not a list")
        return value


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
