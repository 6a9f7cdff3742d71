"""What every test shares."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.house import Workstation
from support.openssh import OpenSSHFactory, require_sshd


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: asyncssh does."""
    return "asyncio"


@pytest.fixture
def openssh_factory(tmp_path: Path) -> Iterator[OpenSSHFactory]:
    """Start real OpenSSH servers below tmp_path by calling this; all of them end with the test."""
    require_sshd()
    with closing(OpenSSHFactory(tmp_path / "openssh")) as factory:
        yield factory


@pytest.fixture
def workstation(tmp_path: Path, openssh_factory: OpenSSHFactory) -> Workstation:
    """Give a workstation that knows no box yet, with an empty data root."""
    return Workstation(tmp_path, openssh_factory)
