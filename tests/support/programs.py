"""Programs of this machine that tests need besides sshd."""

import os
import shutil

import pytest


def require_strace() -> str:
    """Give strace's path; without it skip, or fail where CI is set."""
    found = shutil.which("strace")
    if found is None and os.environ.get("CI"):
        pytest.fail("this test needs strace: install it with `apt-get install strace`")
    if found is None:
        pytest.skip("this test needs strace: install it with `apt-get install strace`")
    return found
