"""What tests of the page share: Chromium, and a daemon with real hosts behind it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from support.browsing import Served
from support.house import Workstation
from support.openssh import OpenSSHFactory, require_sshd

_NAMES = ("chromium", "chromium-headless-shell", "chromium-browser")

_PATIENCE = 15_000.0
"""Milliseconds for what a test expects of a page, on a machine that other tests load."""


def chromium() -> str:
    """Return the path of Chromium; without one skip the calling test, or fail it in CI."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        reason = "this test needs Chromium: install it with `apt-get install chromium`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Run playwright's driver for the tests of a module: its event loop must end before other tests make theirs."""
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Run one Chromium for the tests of a module; it resolves every name to this machine."""
    arguments = ["--no-sandbox", "--host-resolver-rules=MAP * 127.0.0.1"]
    with closing(playwright.chromium.launch(executable_path=chromium(), args=arguments)) as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a daemon with its page and three hosts for the tests of a module."""
    require_sshd()
    directory = tmp_path_factory.mktemp("page")
    with closing(OpenSSHFactory(directory / "openssh")) as factory:
        served = Served(Workstation(directory, factory))
        with served.running():
            yield served


@pytest.fixture
def pictures() -> Path | None:
    """Return where to leave screenshots; None unless the environment names a directory."""
    wanted = os.environ.get("PAGE_PICTURES")
    return Path(wanted) if wanted else None
