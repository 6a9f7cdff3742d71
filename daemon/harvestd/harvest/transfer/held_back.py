"""Holds back content that may be incomplete, and adds a remark when it is published because it no longer changes.

Reading and hashing block, and take seconds for gigabytes: a large file is inspected in slices, between which the
inspection can be cancelled.
"""

from collections.abc import Iterator

import anyio.to_thread

from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.convention.scan.completeness import CHECKED, HEAD_BYTES, check_form
from harvestd.planning.plan import FetchFile
from harvestd.store.staging import Staged
from harvestd.store.verify.checksums import verified


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
