"""Records of runs, experiments and files: the catalogue's rows as frozen values."""

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import Evidence, ExperimentName
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.patterns import Finetuned
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.planning.run_status import RunTrouble, is_over


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
    """SHA-256 of the log's first line; empty if it has checkpoints and no log (`duplicates.NO_LOG`)."""
    base_model: str | None = None
    """The base model from an adapter_config.json of its checkpoints; read only if nothing else names the model."""
    writer: str | None = None
    """The hostname of the machine that writes it, which may be another one than `host` on the same storage."""
    identity: str | None = None
    """The identity of `host`, which is stable when its name changes; None: recorded by an earlier version."""
    step_at: float | None = None
    """When `step` was read, Unix time on our clock."""
    trouble: RunTrouble | None = None
    """Its problem as of the last scan; None if it has none."""
    row_version: int = 0
    """The number of changes of its row in the catalogue: a change that is based on an older version is refused."""

    @property
    def evidence(self) -> Evidence:
        """The facts from which it is named."""
        backbones = frozenset(tuning.backbone for tuning in self.tunings)
        return Evidence(self.config, self.final, self.base_model, backbones, self.step)

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
        return is_over(finished=self.finished, trouble=self.trouble)

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
