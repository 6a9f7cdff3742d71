"""The commit that this harvestd was made from: noted when it was built, asked of git in a checkout."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Final

_PATIENCE: Final = 2.0
"""Seconds for git to answer: a version is no reason to wait for a network file system."""
_QUESTION: Final = ("describe", "--always", "--dirty", "--exclude=*")


def commit() -> str:
    """Return the commit in short, with "-dirty" where files differ from it; empty where it is unknown.."""
    package = files("harvestd")
    noted = package / "data" / "commit"
    if noted.is_file():
        return noted.read_text(encoding="utf-8").strip()
    return described(Path(str(package)).parents[1])


def described(checkout: Path) -> str:
    """Return the commit that is checked out there; empty where it is no checkout of its own, or git can't say."""
    if not (checkout / ".git").exists():
        return ""
    try:
        # S603, S607: words of our own, and git is where the operator's PATH has it. It must not write: no locks.
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(checkout), *_QUESTION],  # noqa: S607
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
