"""Files that can't be published at their local path, for as long as the obstacle there stays unchanged.

A refused file is not fetched again in vain. As soon as the operator moves or changes the obstacle, the file is planned
again, without waiting for another connection.

Holds back content that may be incomplete, and adds a remark when it is published because it no longer changes.
Reading and hashing block, and take seconds for gigabytes: a large file is inspected in slices, between which the
inspection can be cancelled.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

import anyio.to_thread

from harvestd.bulkhead import backoff
from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.completeness import CHECKED, HEAD_BYTES, check_form
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.plan import FetchFile
from harvestd.store.checksums import Fingerprint, fingerprints, is_absent, verified
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

_Key = tuple[str, LocalPath]
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 300.0


class Refusals(Mapping[_Key, tuple[Version, str]]):
    """Maps (remote path, local path) to the version that could not be published, and the reason.

    For one connected host.
    """

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[Version, str]] = {}
        self._causes: dict[_Key, tuple[LocalPath, ...]] = {}
        self._before: dict[_Key, list[Fingerprint]] = {}
        """The fingerprints of the causes when they were first read."""
        self._absent: set[_Key] = set()
        """Refused once although the path was free."""
        self._times: dict[_Key, int] = {}
        """How often each was refused."""
        self._not_before: dict[_Key, float] = {}
        """When each may be tried again at the earliest, in monotonic seconds.

        Another program may write there all the time.
        """

    def __getitem__(self, key: _Key) -> tuple[Version, str]:
        return self._found[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def note(self, place: str, target: LocalPath, version: Version, why: str, causes: Sequence[LocalPath] = ()) -> None:
        """Note that `version` of `place` can't be published at `target`.

        `causes`: the local paths that decide; `target` if there are none.
        """
        key = (place, target)
        self._found[key] = (version, why)
        self._causes[key] = tuple(causes) or (target,)
        self._before.pop(key, None)
        self._times[key] = times = self._times.get(key, 0) + 1
        self._not_before[key] = time.monotonic() + backoff(_FIRST_PAUSE, times, _LONGEST_PAUSE)

    async def heal(self, root: DataRoot) -> None:
        """Remove the refusals whose causes changed since the first call. Raise `HaltedForSafety`."""
        if not self._found:
            return
        keys = list(self._found)
        now = await anyio.to_thread.run_sync(self._looked_at, root, keys)
        for key, found in zip(keys, now, strict=True):
            if self._is_over(key, found):
                del self._found[key], self._causes[key]
                self._before.pop(key, None)

    def _looked_at(self, root: DataRoot, keys: Sequence[_Key]) -> list[list[Fingerprint]]:
        return [fingerprints(root, self._causes[key]) for key in keys]

    def _is_over(self, key: _Key, now: list[Fingerprint]) -> bool:
        before = self._before.setdefault(key, now)
        if time.monotonic() < self._not_before[key]:
            return False
        if before != now:
            return True
        gone = all(is_absent(path, found) for path, found in zip(self._causes[key], now, strict=True))
        if gone and key not in self._absent:
            # The obstacle vanished before its first fingerprint. If it was not the cause, one attempt is made in vain.
            self._absent.add(key)
            return True
        return False


def inspect(file: FetchFile, staged: Staged) -> str | None:
    """Return why the content of a whole staged file must not be published; None if it may be. Blocks."""
    try:
        for _ in _slices(file, staged):
            pass
    except InvalidFacts as e:
        return _doubt(file, staged, str(e))
    return None


async def inspected(file: FetchFile, staged: Staged) -> str | None:
    """Return the same as `inspect`, computed in worker threads."""
    if not file.as_is and not file.source.path.name.endswith(CHECKED):
        return None
    slices = _slices(file, staged)
    try:
        while await anyio.to_thread.run_sync(_next, slices):
            pass
    except InvalidFacts as e:
        return _doubt(file, staged, str(e))
    return None


def _slices(file: FetchFile, staged: Staged) -> Iterator[None]:
    name = file.source.path.name
    if file.as_is:
        check_form(name, staged.read(0, HEAD_BYTES), staged.size)
    yield from verified(name, staged.size, staged.read)


def _next(slices: Iterator[None]) -> bool:
    """Inspect one slice; return whether there is another."""
    return next(slices, StopIteration) is not StopIteration


def _doubt(file: FetchFile, staged: Staged, flaw: str) -> str | None:
    if not file.as_is:
        return flaw
    staged.remark = f"it was so on the host for long: {flaw}"
    return None
