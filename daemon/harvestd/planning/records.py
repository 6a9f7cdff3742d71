"""Records of runs, experiments and files: the catalogue's rows as frozen values.

Sections of the data root, and what of them is in memory. Pure. The records of files are too many to be all in memory.
Those of one section are loaded and dropped together: an experiment's directory without its base evals, its base
evals, or the directory of one host in `_unfiled`. Base evals are a section of their own because one has a copy in
each experiment of its model.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from harvestd.convention.kinds import Finetuned, Kind
from harvestd.convention.metadata.naming import ExperimentName, NamingFacts
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.planning.run_status import RunProblem, is_over


class RunRecord(Immutable):
    """One training run. Its key is (storage, place)."""

    id: str
    storage: str
    place: str
    """The absolute path of its directory on the host."""
    host: str
    """The name of the host that showed it."""
    name: str
    """`run_2025-08-20_03-31-43`."""
    config: ConfigFacts
    config_version: Version
    """The version of the config.yaml from which `config` was read."""
    experiment: str | None = None
    final: TrainingInfo | None = None
    final_version: Version | None = None
    tunings: frozenset[Finetuned] = frozenset()
    """Backbones and fine-tuning datasets in the names of its evals."""
    step: int | None = None
    """The newest step in its log."""
    seconds_left: float | None = None
    config_hash: str | None = None
    """SHA-256 of the config.yaml; with `head` it identifies a run that two storages show."""
    head: str | None = None
    """SHA-256 of the log's first line; empty if it has checkpoints and no log (`identity.NO_LOG`)."""
    base_model: str | None = None
    """The base model from an adapter_config.json of its checkpoints; read only if nothing else names the model."""
    writer: str | None = None
    """The hostname of the machine that writes it, which may be another one than `host` on the same storage."""
    identity: str | None = None
    """The identity of `host`, which is stable when its name changes; None: recorded by an earlier version."""
    step_at: float | None = None
    """When `step` was read, Unix time on our clock."""
    problem: RunProblem | None = None
    """Its problem as of the last scan; None if it has none."""
    row_version: int = 0
    """The number of changes of its row in the catalogue: a change that is based on an older version is refused."""

    @property
    def naming_facts(self) -> NamingFacts:
        """The facts from which it is named."""
        backbones = frozenset(tuning.backbone for tuning in self.tunings)
        return NamingFacts(self.config, self.final, self.base_model, backbones, self.step)

    @property
    def shown_by(self) -> str:
        """The host that showed it: its identity if known, else its name."""
        return self.identity or self.host

    def is_of(self, name: str, identity: str) -> bool:
        """Return whether the host with this name and identity is the one that showed it."""
        return self.identity == identity if self.identity is not None else self.host == name

    @property
    def finished(self) -> bool:
        """Whether step_final was seen complete."""
        return self.final is not None

    @property
    def was_seen(self) -> bool:
        """Whether a host showed it, rather than only evals of it that were assigned by hand."""
        return self.config_hash is not None or self.config_version.size >= 0

    @property
    def is_over(self) -> bool:
        """Whether it has finished or died, so that nothing more is written."""
        return is_over(finished=self.finished, problem=self.problem)

    @property
    def key(self) -> tuple[str, str]:
        """The unique key: storage and remote path."""
        return self.storage, self.place


class ExperimentRecord(Immutable):
    """One local directory of the convention."""

    id: str
    name: ExperimentName
    moved_to: str | None = None
    """The name that a person gave its directory, which takes precedence over facts."""
    aliases: tuple[str, ...] = ()
    """Earlier names of its directory, oldest first: commands accept them, and no other experiment gets them."""
    gone: bool = False
    """Whether a person removed its directory: then nothing of it is fetched."""
    row_version: int = 0
    """The number of changes of its row in the catalogue: a change that is based on an older version is refused."""

    @property
    def directory(self) -> str:
        """The name of its directory below the data root."""
        return self.moved_to or self.name.directory


class EvalLink(Immutable):
    """The run named in an eval_config.yaml. Its key is (storage, place)."""

    storage: str
    place: str
    """The absolute path of the eval_config.yaml on the host."""
    version: Version
    training_run: str | None


class FileRecord(Immutable, gc=False):
    """One local file, and the remote version from which it came. Its key is (storage, place, target)."""

    storage: str
    place: str
    target: LocalPath
    host: str
    experiment: str | None
    """None for an eval in `_unfiled`."""
    kind: Kind
    version: Version
    """The version of the remote file when it was read."""
    size: int
    """Local bytes, synced; for a growing file this is the journal of what was appended."""
    sha256: str
    fetched_at: float
    """Unix time on our clock."""
    reason: str
    differs: Version | None = None
    """A remote version whose hash showed different content: it must be fetched."""
    marker: bool = False
    """Whether it is the marker of its group: if it is local, the group is complete."""

    @property
    def key(self) -> tuple[str, str, LocalPath]:
        """The unique key: storage, remote path and local path."""
        return self.storage, self.place, self.target


UNFILED: Final = "_unfiled"
BASE_EVAL: Final = "base_eval"

Section = tuple[str, ...]
"""The components of its directory below the data root."""


def section_of(target: tuple[str, ...]) -> Section:
    """Return the section of a file from the components of its local path."""
    if target[0] == UNFILED or (len(target) > 2 and target[1] == BASE_EVAL):  # noqa: PLR2004  (a file below base_eval)
        return tuple(target[:2])
    return (target[0],)


def sections_of(files: Iterable[FileRecord]) -> set[Section]:
    """Return the sections of these files."""
    return {section_of(file.target) for file in files}


def sections_in(directory: str) -> tuple[Section, Section]:
    """Return the sections of the experiment with this directory."""
    return (directory,), (directory, BASE_EVAL)


class NotLoaded(Exception):
    """Records that are needed are only in the database; the caller loads what is named here, and tries again.

    An answer from memory alone could be wrong, and a file fetched again or published over another one.
    """

    def __init__(self, sections: Iterable[Section] = (), storages: Iterable[str] = ()) -> None:
        self.sections: Final = frozenset(sections)
        self.storages: Final = frozenset(storages)
        """Storages of which all files are needed."""
        super().__init__(f"not loaded: {sorted(self.sections)}, all files from {sorted(self.storages)}")


class Missing:
    """Collects what several steps need, so that it is loaded at once."""

    def __init__(self) -> None:
        self._sections: set[Section] = set()
        self._storages: set[str] = set()
        self.steps = 0
        """How many steps need something."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Do one step, and note what it needs instead of raising `NotLoaded`."""
        try:
            yield
        except NotLoaded as e:
            self.steps += 1
            self._sections |= e.sections
            self._storages |= e.storages

    def require_none(self) -> None:
        """Raise `NotLoaded` if any step needs something."""
        if self.steps:
            raise NotLoaded(self._sections, self._storages)


class Loaded:
    """Tracks which sections and storages are completely in memory: all, unless they are marked as unloaded."""

    def __init__(self) -> None:
        self.sections: set[Section] = set()
        """The sections with files that are only in the database."""
        self.storages: set[str] = set()
        """The storages of which any file may be only in the database."""

    def require(self, sections: Collection[Section] = (), storages: Collection[str] = ()) -> None:
        """Raise `NotLoaded` unless all of these are in memory."""
        missing = self.sections.intersection(sections) if self.sections else ()
        incomplete = self.storages.intersection(storages) if self.storages else ()
        if missing or incomplete:
            raise NotLoaded(missing, incomplete)
