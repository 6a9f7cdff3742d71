"""The commit that this harvestd was built from: read from the package data, or from git in a checkout."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Final

_TIMEOUT: Final = 2.0
"""Seconds for git to answer: a version string is not worth waiting for a network file system."""
_QUESTION: Final = ("describe", "--always", "--dirty", "--exclude=*")


def commit() -> str:
    """Return the short commit hash, with "-dirty" if files differ from it; empty if it is unknown."""
    package = files("harvestd")
    noted = package / "data" / "commit"
    if noted.is_file():
        return noted.read_text(encoding="utf-8").strip()
    return described(Path(str(package)).parents[1])


def described(checkout: Path) -> str:
    """Return the commit of this checkout; empty if it is not the root of a checkout, or git fails."""
    if not (checkout / ".git").exists():
        return ""
    try:
        # S603, S607: constant arguments, and git from the operator's PATH. Optional locks are off: it must not write.
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(checkout), *_QUESTION],  # noqa: S607
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            text=True,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
