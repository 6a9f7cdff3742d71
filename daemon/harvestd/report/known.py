"""The catalogue's records of one experiment, for its report, with or without a running daemon."""

import hashlib
from typing import Final

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord

_LAYOUT: Final = "1"
"""Changed with the README's form, so that all are written again."""
_DRAWN: Final = frozenset({Kind.CONFIG, Kind.TRAIN_LOG, Kind.METRICS, Kind.RUN_META, Kind.EVAL_CONFIG, Kind.CHECKPOINT})
_DIGITS: Final = 16


class Known(Immutable):
    """One experiment with all its records."""

    experiment: ExperimentRecord
    runs: tuple[RunRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    """As (host, entry)."""

    @property
    def directory(self) -> LocalPath:
        """The experiment's directory; raises `RejectedPath` for an invalid name."""
        return LocalPath((self.experiment.directory,))

    def mark(self, scripts: str) -> str:
        """Return a hash of all inputs of the README; `scripts` is a hash of the scripts."""
        files = sorted(
            "\0".join((str(file.target), file.sha256, file.host, file.place, file.reason)) for file in self.files
        )
        runs = sorted(
            repr((run.name, run.host, run.place, run.config, run.final, run.step, run.trouble)) for run in self.runs
        )
        # Only what is shown of them: some details of a scan are not recorded.
        left_out = sorted(
            repr((host, each.place, each.size, each.entries, each.reason)) for host, each in self.left_out
        )
        return _hash(_LAYOUT, scripts, repr(self.experiment), *runs, *files, *left_out)

    def mark_of_pictures(self, scripts: str) -> str:
        """Return a hash of the pictures' inputs: small files, and the directory's name in their titles."""
        drawn = sorted(f"{file.target}\0{file.sha256}" for file in self.files if file.kind in _DRAWN)
        return _hash(scripts, self.experiment.directory, *drawn)


def _hash(*texts: str) -> str:
    # One hash over all texts: there are thousands of them.
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
