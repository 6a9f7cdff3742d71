"""Suspends the cyclic garbage collector during imports, which create hundreds of thousands of permanent objects.

The collector would traverse all of them again and again during the imports, and once more in the middle of the work
that follows.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection for the body, and make the objects that exist at its end permanent."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        # A pass creates hundreds of thousands of objects, and hardly a cycle among them.
        gc.set_threshold(50_000, 20, 50)
    finally:
        if was_enabled:
            gc.enable()
