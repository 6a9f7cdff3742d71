"""Suspends the cyclic garbage collector during imports, which create hundreds of thousands of permanent objects.

The collector would traverse all of them again and again during the imports, and once more in the middle of the work
that follows.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLDS: Final = (5_000, 20, 50)
"""New objects, and collections of younger objects, after which a generation is collected.

A pass creates hundreds of thousands of objects, and hardly a cycle among them. One collection must be short all the
same: each request to the API leaves cycles, and to free 50,000 such objects at once holds the event loop for 0.1 s.
"""


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection for the body, and make the objects that exist at its end permanent."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
    finally:
        if was_enabled:
            gc.enable()
