"""The model of `manifest.json`: the origin of each file, and what is not here and why. Format 1.

A lost catalogue is rebuilt from it, so it is self-contained. The text is ASCII (names that are not UTF-8 are escaped
lone surrogates), indented, and equal for equal content. `manifest_file` reads and writes it.

Typed access to parsed JSON; an error contains the place of the invalid field. Validation libraries are not used,
since they reject the lone surrogates that represent names which are not UTF-8.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, cast

from msgspec import field

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.store.errors import Damaged

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
