"""Copies back missing files whose content exists elsewhere in an experiment, because the operator renamed a directory.

A renamed directory inside an experiment is not tracked, unlike the experiment's own directory: the remote path decides
where each file belongs. A missing file is copied back when a repair is requested, so that it is not downloaded again.
The operator's files stay as they are.
"""

from collections import defaultdict
from collections.abc import Sequence

from harvestd.audit.findings import Finding, Kind
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.planning.records import FileRecord
from harvestd.store.errors import Conflict, Refused
from harvestd.store.publish import Publication, Result, publish
from harvestd.store.root import DataRoot


class Strangers:
    """The files in experiments that are on no record. Blocks; each is hashed at most once."""

    def __init__(self, root: DataRoot, found: Sequence[Finding]) -> None:
        """Take the files of an audit's findings."""
        self._root = root
        self._by_size: defaultdict[int, list[LocalPath]] = defaultdict(list)
        self._hashes: dict[LocalPath, str] = {}
        for finding in found:
            if finding.kind is Kind.FOREIGN:
                self._take(finding.path)

    def _take(self, name: str) -> None:
        try:
            path = LocalPath.parse(name)
            answer = self._root.stat(path)
        except (RejectedPath, Conflict, Refused):
            return
        if answer is not None:
            self._by_size[answer.st_size].append(path)

    def put_back(self, record: FileRecord) -> bool:
        """Copy the content of a record to its free path; return whether it is there now.

        Raise `DiskFull` and `HaltedForSafety`.
        """
        same = next((path for path in self._by_size.get(record.size, ()) if self._hash(path) == record.sha256), None)
        if same is None:
            return False
        with self._root.stage() as staged:
            try:
                with self._root.reading(same) as source:
                    staged.copy(source.fileno(), record.size)
            except (FileNotFoundError, Conflict):
                return False
            if staged.hexdigest != record.sha256:
                return False
            (outcome,) = publish(self._root, [Publication(staged, record.target)])
        return outcome.result in {Result.PUBLISHED, Result.ADOPTED}

    def _hash(self, path: LocalPath) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = self._root.sha256(path)
            except (FileNotFoundError, Conflict, Refused):
                self._hashes[path] = ""
        return self._hashes[path]
