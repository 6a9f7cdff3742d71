"""Whom the daemon takes for gone: nobody before everybody who knows hosts has spoken."""

from contextlib import closing
from pathlib import Path

import anyio
import pytest
import structlog.testing

from harvestd import bulkhead
from harvestd.catalogue.entries import GONE, HostRecord
from harvestd.catalogue.open import open_catalogue
from harvestd.errors import DiskFull
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.metrics import FleetMetrics, NullListener
from harvestd.harvest.sync import Broadcast
from harvestd.inventory.host import Host
from harvestd.remote.ssh.target import Target
from harvestd.settings import HostSettings, Settings, Targets
from harvestd.store.root import DataRoot
from support.waiting import events, until

pytestmark = pytest.mark.anyio


async def test_nobody_is_taken_for_gone_before_all_have_spoken(tmp_path: Path) -> None:
    """As long as a file that names boxes can't be read, who is in no set may be one of its boxes."""
    file = tmp_path / "targets.json"
    desk = HostSettings.model_validate({"name": "desk", "address": "127.0.0.1", "port": 1})
    settings = Settings(hosts=(desk,), targets=Targets(files=(file,)), data_root=tmp_path / "data")
    context = Context.of(settings, NullListener())
    with DataRoot.open(settings.data_root) as root:
        fleet = Fleet(context, root, Broadcast(), FleetMetrics())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet._inventory.run)
            await until(lambda: [host.name for host in context.fleet.present.values()] == ["desk"])
            assert [context.fleet.hosts] == [None]
            file.write_text("[]")
            await until(lambda: context.fleet.hosts is not None and "desk" in context.fleet.hosts)
            tasks.cancel_scope.cancel()


async def test_a_host_that_goes_while_the_disk_is_full_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for the record nothing ends, and the record is made when there is room."""
    monkeypatch.setattr(bulkhead, "FIRST_PAUSE", 0.01)
    tables = [{"name": name, "address": "127.0.0.1", "port": 1} for name in ("gpu-a", "gpu-b")]
    settings = Settings.model_validate({"hosts": tables, "data_root": tmp_path / "data", "state_dir": tmp_path})
    fewer = Settings.model_validate({"hosts": tables[:1], "data_root": tmp_path / "data", "state_dir": tmp_path})
    context = Context.of(settings, NullListener())
    recorded: list[tuple[str, str]] = []
    refused = 0

    with DataRoot.open(settings.data_root) as root, closing(open_catalogue(tmp_path, "root")) as catalogue:
        save = catalogue.hosts.save

        async def save_where_there_is_room(record: HostRecord) -> None:
            nonlocal refused
            if record.state == GONE and refused < 3:
                refused += 1
                raise DiskFull("no room")
            await save(record)
            recorded.append((record.name, record.state))

        monkeypatch.setattr(catalogue.hosts, "save", save_where_there_is_room)
        await context.requests.set_catalogue(catalogue)
        await context.open_catalogue(catalogue)
        fleet = Fleet(context, root, Broadcast(), FleetMetrics())
        async with anyio.create_task_group() as tasks:
            await tasks.start(fleet.run)
            await until(lambda: len(fleet.watching) == 2)
            fleet.adopt(fewer)
            await until(lambda: ("gpu-b", GONE) in recorded)
            assert refused == 3
            assert set(fleet.watching) == {"static:gpu-a"}
            tasks.cancel_scope.cancel()


async def test_a_host_whose_settings_fail_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported by name, and is watched as soon as its settings can be made out."""
    tables = [{"name": name, "address": "127.0.0.1", "port": 1} for name in ("gpu-a", "gpu-b")]
    settings = Settings.model_validate({"hosts": tables, "data_root": tmp_path / "data", "state_dir": tmp_path})
    context = Context.of(settings, NullListener())
    target_of, failing = Context.target_of, [True]

    def fail(self: Context, host: Host) -> Target:
        if failing and host.name == "gpu-a":
            raise KeyError("a defect")
        return target_of(self, host)

    monkeypatch.setattr(Context, "target_of", fail)
    with DataRoot.open(settings.data_root) as root, structlog.testing.capture_logs() as event_log:
        fleet = Fleet(context, root, Broadcast(), FleetMetrics())
        async with anyio.create_task_group() as tasks:
            await tasks.start(fleet.run)
            await until(lambda: set(fleet.watching) == {"static:gpu-b"})
            assert events(event_log, "host.failed", host="gpu-a")
            failing.clear()
            fleet.adopt(settings)
            await until(lambda: set(fleet.watching) == {"static:gpu-a", "static:gpu-b"})
            assert not events(event_log, "host.gone")
            tasks.cancel_scope.cancel()
