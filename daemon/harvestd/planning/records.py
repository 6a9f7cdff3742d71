"""What is known of runs, experiments and files: the catalogue's rows as frozen values."""

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
    """The absolute path of its directory on the box."""
    host: str
    """The name of the host that showed it."""
    name: str
    """`run_2025-08-20_03-31-43`."""
    config: ConfigFacts
    config_version: Version
    """Of the config.yaml that `config` was read from."""
    experiment: str | None = None
    final: TrainingInfo | None = None
    final_version: Version | None = None
    tunings: frozenset[Finetuned] = frozenset()
    """What the names of its evals say about backbone and fine-tuning dataset."""
    step: int | None = None
    """The newest step in its log."""
    seconds_left: float | None = None
    config_hash: str | None = None
    """SHA-256 of the config.yaml; with `head` it tells whether two storages show one run."""
    head: str | None = None
    """SHA-256 of the log's first line; empty where it holds checkpoints and no log (`twins.NO_LOG`)."""
    base_model: str | None = None
    """What the adapter_config.json of one of its checkpoints says; read only where nothing else names the model."""
    writer: str | None = None
    """What the machine that writes it calls itself; it may be another one than `host` of the same storage."""
    identity: str | None = None
    """The identity of `host`, which stays when its name changes; None: recorded by an earlier version."""
    step_at: float | None = None
    """When `step` was heard, Unix time on our clock."""
    trouble: RunTrouble | None = None
    """Why it does not go on as it should, by the last look; None while it does."""

    @property
    def evidence(self) -> Evidence:
        """What it can be named by."""
        backbones = frozenset(tuning.backbone for tuning in self.tunings)
        return Evidence(self.config, self.final, self.base_model, backbones, self.step)

    @property
    def shown_by(self) -> str:
        """The host that showed it: its identity where that is known, else its name."""
        return self.identity or self.host

    def is_of(self, name: str, identity: str) -> bool:
        """Return whether the host of this name and identity is the one that showed it."""
        return self.identity == identity if self.identity is not None else self.host == name

    @property
    def finished(self) -> bool:
        """Whether step_final was seen complete."""
        return self.final is not None

    @property
    def was_seen(self) -> bool:
        """Whether a host showed it, and not only evals of it that were filed by hand."""
        return self.config_hash is not None or self.config_version.size >= 0

    @property
    def is_over(self) -> bool:
        """Whether it has finished or died, so that nothing of it is written any more."""
        return is_over(finished=self.finished, trouble=self.trouble)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other run."""
        return self.storage, self.place


class ExperimentRecord(Immutable):
    """One local directory of the convention."""

    id: str
    name: ExperimentName
    moved_to: str | None = None
    """The name that a person gave its directory: that stands, whatever the facts say."""
    aliases: tuple[str, ...] = ()
    """Names that its directory had before, oldest first: commands know it by them, and no other takes them."""
    gone: bool = False
    """Whether a person took its directory away: nothing of it is fetched behind their back."""

    @property
    def directory(self) -> str:
        """Its directory's name below the data root."""
        return self.moved_to or self.name.directory


class EvalLink(Immutable):
    """What an eval_config.yaml said of the run that its evals belong to. Its key is (storage, place)."""

    storage: str
    place: str
    """The absolute path of the eval_config.yaml on the box."""
    version: Version
    training_run: str | None


class FileRecord(Immutable, gc=False):
    """One file at home, and the remote version it came from. Its key is (storage, place, target)."""

    storage: str
    place: str
    target: LocalPath
    host: str
    experiment: str | None
    """None for an eval that waits in `_unfiled`."""
    kind: Kind
    version: Version
    """Of the remote file, when it was read."""
    size: int
    """Bytes at home, synced; for a growing file this is the journal of what was appended."""
    sha256: str
    fetched_at: float
    """Unix time on our clock."""
    reason: str
    differs: Version | None = None
    """A remote version that a hash showed to be other content: to be fetched."""
    marker: bool = False
    """Whether it is the marker of its group: when it is here, the group is."""

    @property
    def key(self) -> tuple[str, str, LocalPath]:
        """What tells it from every other file."""
        return self.storage, self.place, self.target
