"""The two ways in which a box is read, for the suite that both have to pass."""

from pathlib import Path

import pytest

from support.openssh import OpenSSHFactory, OpenSSHServer


@pytest.fixture(params=["probe", "sftp"])
def method(request: pytest.FixtureRequest) -> str:
    """Return each of the two ways in which a box is read."""
    return str(request.param)


@pytest.fixture
def server(method: str, openssh_factory: OpenSSHFactory) -> OpenSSHServer:
    """Start a server that can be read in the wanted way."""
    return openssh_factory(sftp_only=method == "sftp")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with its training tree."""
    (tmp_path / "localfs" / "training_runs").mkdir(parents=True)
    return tmp_path / "localfs"
