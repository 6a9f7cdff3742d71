"""A second SIGTERM: the daemon ends at once, whatever it is in, and what stands at home is consistent."""

import signal

import anyio
import pytest

from harvestd.demo.writers import write_convention_example
from support.faults import fired
from support.house import Workstation
from support.waiting import until
from support.wanted import missing, temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@pytest.mark.parametrize("point", ["publish.staged_synced", "publish.renamed", "growing.appended"])
async def test_second_sigterm_ends_the_daemon_at_once(workstation: Workstation, point: str) -> None:
    """A disk that hangs in the middle of publishing holds up the first SIGTERM, not the second; a pass converges."""
    box = workstation.add_box()
    await anyio.to_thread.run_sync(write_convention_example, box.root)
    workstation.settings()
    with workstation.program(point, "1", "hold") as process:
        await until(lambda: workstation.catalogue("SELECT id FROM runs"))
        await until(lambda: (workstation.data / ".harvestd" / "staging").exists() and workstation.filed() != {})
        process.send_signal(signal.SIGTERM)
        await until(lambda: '"service.stopping"' in workstation.output_file.read_text())
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, seconds=1)
        fired(34)
    assert process.returncode == 128 + signal.SIGTERM
    assert '"service.stopped"' not in workstation.output_file.read_text()
    (result,) = (await workstation.once()).values()
    assert not result.failed
    assert not result.conflicts
    assert missing(workstation) == []
    assert temporaries_left(workstation) == []
    workstation.audit()
