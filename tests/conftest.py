"""What every test shares."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

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
