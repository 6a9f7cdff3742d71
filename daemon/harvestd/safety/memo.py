"""Keeps what was found out about each directory until one of its inputs changes. Pure.

A directory whose part of the plan is kept (`HostPlanner.kept`: the same object) has the same evidence as before.
"""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from harvestd.convention.scan.model import EvalDir, RunDir
from harvestd.planning.host_plan.planner import HostPlanner

T = TypeVar("T")


class Memo(Protocol):
    """Returns a kept value, or computes it."""

    def of(self, what: str, directory: RunDir | EvalDir, basis: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, or its earlier result for the same directory and `basis`; `what` names the value."""
        ...


class NoMemo:
    """Computes every value."""

    def of(self, _what: str, _directory: RunDir | EvalDir, _basis: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`."""
        return compute()


_Value = tuple[object, Hashable, object]
"""The kept part and the basis with which a value was computed, and the value."""


class DirectoryMemo:
    """Keeps the values of one host's directories from one verdict to the next."""

    def __init__(self, planner: HostPlanner) -> None:
        self._planner = planner
        self._before: dict[tuple[str, int], _Value] = {}
        """By the kind of value and the directory's id."""
        self._values: dict[tuple[str, int], _Value] = {}

    def begin(self) -> None:
        """Begin another verdict: what it does not ask for is dropped."""
        self._before, self._values = self._values, {}

    def of(self, what: str, directory: RunDir | EvalDir, basis: Hashable, compute: Callable[[], T]) -> T:
        """Return a value; see `Memo.of`."""
        kept = self._planner.kept(directory)
        if kept is None:
            return compute()
        key = what, id(directory)
        known = self._before.get(key)
        if known is None or known[0] is not kept or known[1] != basis:
            known = kept, basis, compute()
        self._values[key] = known
        return cast("T", known[2])
