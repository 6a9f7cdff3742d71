"""Creates and checks the directory of the catalogue before SQLite uses it."""

import os
from pathlib import Path

from harvestd.errors import Fatal

_HINT = "set state_dir to a directory on a local disk that the user who runs harvestd may write"


def make_state_dir(path: Path) -> None:
    """Create the directory at `path` if it is missing. Raise `Fatal` if it is unusable for the catalogue."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fatal(f"state_dir {path} can't be made: {error.strerror or error}", hint=_HINT) from error
    problem = problem_with(path)
    if problem is not None:
        raise problem


def problem_with(path: Path) -> Fatal | None:
    """Return why `path`, which may not exist yet, is unusable for the catalogue; None if it is usable.

    Nothing is created.
    """
    try:
        nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
        if not nearest.is_dir():
            return Fatal(f"state_dir {path} can't be used: {nearest} is no directory", hint=_HINT)
        if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
            return Fatal(f"state_dir {path} can't be written: no permission for {nearest}", hint=_HINT)
    except OSError as error:
        return Fatal(f"state_dir {path} can't be used: {error.strerror or error}", hint=_HINT)
    return None
