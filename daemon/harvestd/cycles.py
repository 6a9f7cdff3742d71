"""The collector of cycles, kept from what an import brings: objects by the hundred thousand that stay for good.

It would look through all of them again and again while they come, and once more in the middle of the work after it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Make what is there at the end of the body stay for good, without looking for cycles meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        # A pass makes objects by the hundred thousand, and hardly a cycle among them.
        gc.set_threshold(50_000, 20, 50)
    finally:
        if was_enabled:
            gc.enable()
