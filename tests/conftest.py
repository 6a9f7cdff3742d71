"""What every test shares."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: asyncssh does."""
    return "asyncio"
