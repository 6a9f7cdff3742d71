"""Whom the daemon takes for gone: nobody before everybody who knows hosts has spoken."""

from pathlib import Path

import anyio
import pytest

from harvestd.harvest.bell import Bell
from harvestd.harvest.fleet import Fleet
from harvestd.harvest.house import House
from harvestd.harvest.monitor import Silent
from harvestd.harvest.tally import Tally
from harvestd.settings import HostSettings, Settings, Targets
from harvestd.store.root import DataRoot
from support.waiting import until

pytestmark = pytest.mark.anyio


async def test_nobody_is_taken_for_gone_before_all_have_spoken(tmp_path: Path) -> None:
    """As long as a file that names boxes can't be read, who is in no set may be one of its boxes."""
    file = tmp_path / "targets.json"
    desk = HostSettings.model_validate({"name": "desk", "address": "127.0.0.1", "port": 1})
    settings = Settings(hosts=(desk,), targets=Targets(files=(file,)), data_root=tmp_path / "data")
    house = House.of(settings, Silent())
    with DataRoot.open(settings.data_root) as root:
        fleet = Fleet(house, root, Bell(), Tally())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet._inventory.run)
            await until(lambda: [host.name for host in house.present.values()] == ["desk"])
            assert [house.hosts] == [None]
            file.write_text("[]")
            await until(lambda: house.hosts == frozenset({"desk"}))
            tasks.cancel_scope.cancel()
