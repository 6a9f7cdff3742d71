"""What every test shares."""

import gc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import structlog

from support.account import Account
from support.cloud import Cloud, cloud_api
from support.house import Workstation
from support.openssh import OpenSSHFactory, require_sshd
from support.planted import Planted

_TESTS: Final = Path(__file__).parent
_LONGEST: Final = (
    "property/test_harvest_machine.py",
    "integration/test_safe.py",
    "faults/test_each_await_raises.py",
    "faults/test_silent_networks.py",
    "unit/report/test_scripts.py",
    "integration/test_demo.py",
    "unit/store/test_crash.py",
    "unit/catalogue/test_loading.py",
    "unit/settings/test_access.py",
    "unit/cli/test_lazy_import.py",
)
"""Files that take long. They begin first, so that no worker is left with one of them when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; all others keep their order."""
    order = {_TESTS / name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of each later search for garbage."""
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: asyncssh does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def unconfigured_logs() -> Iterator[None]:
    """Forget the level and form of logs that a test set: later tests of the same process count events of all levels."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def openssh_factory(tmp_path: Path) -> Iterator[OpenSSHFactory]:
    """Start real OpenSSH servers below tmp_path by calling this; all of them end with the test."""
    require_sshd()
    with closing(OpenSSHFactory(tmp_path / "openssh")) as factory:
        yield factory


@pytest.fixture
def workstation(tmp_path: Path, openssh_factory: OpenSSHFactory) -> Workstation:
    """Return a workstation that knows no box yet, with an empty data root."""
    return Workstation(tmp_path, openssh_factory)


@pytest.fixture
def planted() -> Planted:
    """Return what makes and finds secrets."""
    return Planted()


@pytest.fixture
def cloud(planted: Planted) -> Iterator[Cloud]:
    """Provide an account without instances."""
    with cloud_api(planted) as account:
        yield account


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the file system that all boxes of the account show."""
    place = tmp_path / "shared" / "localfs"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def account(workstation: Workstation, openssh_factory: OpenSSHFactory, cloud: Cloud, root: Path) -> Account:
    """Return an account at a workstation that names no box itself."""
    return Account(workstation, openssh_factory, cloud, root)
