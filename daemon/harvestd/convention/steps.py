"""Computations that yield wherever they may be interrupted, so that a caller can do other work in between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]


def finished(steps: Steps[T]) -> T:
    """Return the result of a computation without interrupting it."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
