"""What the integration tests share."""

from pathlib import Path

import pytest

from support.house import Workstation
from support.openssh import OpenSSHFactory


@pytest.fixture
def workstation(tmp_path: Path, openssh_factory: OpenSSHFactory) -> Workstation:
    """Give a workstation that knows no box yet, with an empty data root."""
    return Workstation(tmp_path, openssh_factory)
