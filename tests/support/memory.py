"""How much memory this process takes at most, while something goes on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KIB = 1024


def resident(field: str = "VmRSS", pid: int | str = "self") -> int:
    """Return a process's resident bytes now, or at most since they were last counted anew (`VmHWM`)."""
    (found,) = re.findall(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) * _KIB


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Fail where this process takes `size` bytes more in the body than before it."""
    before = resident()
    # Counts the peak anew from here.
    Path("/proc/self/clear_refs").write_text("5")
    yield
    more = resident("VmHWM") - before
    assert more < size, f"{more / _KIB / _KIB:.0f} MiB more"
