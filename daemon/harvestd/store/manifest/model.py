"""`manifest.json` of an experiment: where each file came from, and what is not here and why. Format 1.

A lost catalogue is rebuilt from it, so it is complete in itself. The text is ASCII (names that are not UTF-8 survive as
escaped lone surrogates), indented, and the same for equal content. Writing and reading it is `manifest_file`; this
module only holds the model.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import field

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable

FORMAT: Final = 1
"""The number that a reader must know; a field may be added under the same number, none may change its meaning."""


class FileState(StrEnum):
    """How a file came to its content."""

    SEALED = "sealed"
    """Whole and final at one moment of its source."""
    GROWING = "growing"
    """A prefix of a source that may still grow."""


class NamePart(Immutable):
    """One part of the experiment's name."""

    value: str
    source: str
    """What said so, e.g. "operator's rule" or "config.yaml"."""


class Experiment(Immutable):
    """Which experiment the manifest is for."""

    id: str
    directory: str
    """The directory's name below the data root."""
    name: Mapping[str, NamePart] = field(default_factory=dict)
    """By the part's name: experiment_name, date, model, hardware, steps."""


class Run(Immutable, order=True):
    """One training run that is filed here."""

    host: str
    storage: str
    path: str
    """On the box, below its tree."""
    name: str
    id: str = ""
    """The catalogue's; empty in manifests of earlier versions."""


class FiledFile(Immutable):
    """One file that is here."""

    path: str
    """Below the experiment's directory, with slashes; one that `LocalPath` takes: who reads a manifest sees to that."""
    kind: str
    """The convention's word for what it is."""
    size: int
    """Bytes."""
    sha256: str
    state: FileState
    host: str
    storage: str
    remote_path: str
    mtime_ns: int
    """The source's own, Unix time in nanoseconds; as the box says, so any number."""
    fetched_at: datetime
    """Aware of its zone; kept in UTC."""
    reason: str = ""
    """Why it is here where that is not plain, e.g. "provisional: the run died before step_final"."""
    marker: bool = False
    """Whether it says of its group that all of it is complete."""

    def __post_init__(self) -> None:
        """Raise ValueError for a naive time."""
        if self.fetched_at.tzinfo is None:
            raise ValueError("fetched_at needs a zone")

    def below(self, directory: LocalPath) -> LocalPath:
        """Return the file's place in the data root for an experiment at `directory`; raises `RejectedPath`."""
        return LocalPath((*directory.parts, *self.path.split("/")))


class LeftOut(Immutable):
    """One entry that is on a box and not here; a directory that was not walked is one entry."""

    host: str
    path: str
    """On the box."""
    reason: str
    """The rule that said so."""
    size: int | None = None
    """Bytes in all; None where that is not known."""
    entries: int | None = None
    """How many files; None where that is not known."""
    gone_at: float | None = None
    """Since when it is not on the box any more, in Unix time; None: it was there when it was seen last."""


class MadeLink(Immutable, order=True):
    """One link that was made here in the place of one on the box."""

    path: str
    """Below the experiment's directory, with slashes."""
    target: str
    """Its neighbour, by name."""


class Manifest(Immutable):
    """Everything that `manifest.json` says."""

    experiment: Experiment
    runs: tuple[Run, ...] = ()
    files: tuple[FiledFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    links: tuple[MadeLink, ...] = ()
    aliases: tuple[str, ...] = ()
    """Names that the directory had before, oldest first."""
