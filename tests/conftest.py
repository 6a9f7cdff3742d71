"""What every test shares."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from support.account import Account
from support.cloud import Cloud, cloud_api
from support.house import Workstation
from support.openssh import OpenSSHFactory, require_sshd
from support.planted import Planted


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
