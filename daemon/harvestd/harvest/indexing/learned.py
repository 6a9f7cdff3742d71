"""What one scan shows of a run, and the record that follows from it. Pure."""

from collections.abc import Iterable

from msgspec.structs import replace

from harvestd.convention.metadata.models import model_id
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.patterns import Finetuned
from harvestd.convention.scan.model import EvalDir, RunDir
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.planning.identity.duplicates import NO_LOG, Fingerprint, Undecidable
from harvestd.planning.records import RunRecord


class LearnedRun(Immutable):
    """What this scan shows of one run."""

    config: ConfigFacts | None
    """None if it was not read in this scan; the same for the other fields."""
    final: TrainingInfo | None
    base_model: str | None = None
    backbones: frozenset[str] = frozenset()
    """As spelled in the directory names of its evals."""
    config_hash: str | None = None
    head: str | None = None

    @property
    def names_model(self) -> bool:
        """Whether the files that were read name the run's model."""
        return names_model(self.config, self.final)


def undecided_because(seen: Fingerprint, found: Undecidable) -> str:
    """Return what is missing to tell a run from another one."""
    if seen.head == NO_LOG:
        return f"it has no log: the log alone tells whether it is a part of the run on {found.other.host}"
    return f"its log's first line will tell whether it is the run on {found.other.host}"


def names_model(config: ConfigFacts | None, final: TrainingInfo | None) -> bool:
    """Return whether a run's own files name its model; a path that ends in a hash or at another run does not."""
    references = (config.backbone if config else None, final.backbone if final else None)
    return any(reference and model_id(reference) for reference in references)


def updated_record(record: RunRecord, run: RunDir, learned: LearnedRun, host: Host) -> RunRecord:
    """Return a run's record with what this scan shows of it, and its host's present name."""
    is_own = record.is_of(host.name, host.identity)
    after = replace(
        record,
        host=host.name if is_own else record.host,
        identity=host.identity if is_own else record.identity,
        base_model=learned.base_model or record.base_model,
        writer=run.writer or record.writer,
        config_hash=learned.config_hash or record.config_hash,
        head=record.head or learned.head,
    )
    if learned.config is not None and run.config is not None:
        after = replace(after, config=learned.config, config_version=run.config.version)
    if learned.final is not None and run.final_info is not None:
        after = replace(after, final=learned.final, final_version=run.final_info.version)
    return after


def tuned(record: RunRecord, found: Iterable[Finetuned]) -> RunRecord:
    """Return a run's record with more backbones and fine-tuning datasets from the names of its evals."""
    return replace(record, tunings=record.tunings | set(found))


def is_succeeded(run: RunDir) -> bool:
    """Return whether the run wrote later files since, so that its config.yaml is certainly complete."""
    if run.config is None:
        return False
    written = max(run.config.version.mtime_ns, run.config.version.ctime_ns)
    return any(each.source.version.size > 0 and each.source.version.mtime_ns > written for each in run.growing)


def backbones_of(evals: Iterable[EvalDir]) -> dict[str, frozenset[str]]:
    """Return how the evals of each run spell its backbone, by run name."""
    found: dict[str, frozenset[str]] = {}
    for eval_dir in evals:
        if eval_dir.run is not None:
            here = frozenset(tuning.backbone for tuning in eval_dir.finetuned)
            found[eval_dir.run.name] = found.get(eval_dir.run.name, frozenset()) | here
    return found
