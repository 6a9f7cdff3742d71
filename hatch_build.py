"""Hatch's hook: notes the commit in what is built, so that `harvestd --version` can say it where there is no git.

In a source distribution it stands in `.commit`, beside pyproject.toml; a wheel has it as `harvestd/data/commit`. An
editable installation needs none: it asks git, whatever is checked out by then.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NOTE = ".commit"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]  # hatch's own hooks don't say of which builder either
    """Adds the note to a build; without git, or outside a checkout, it has none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the note beside the build and let it be included."""
        self._directory = TemporaryDirectory(prefix="harvestd-build-")
        root = Path(self.root)
        commit = (root / _NOTE).read_text() if (root / _NOTE).is_file() else f"{_described(root)}\n"
        if version == "editable" or not commit.strip():
            return
        note = Path(self._directory.name, "commit")
        note.write_text(commit)
        build_data["force_include"][str(note)] = _NOTE if self.target_name == "sdist" else "harvestd/data/commit"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  (hatch's)
        """Remove what was written beside the build."""
        self._directory.cleanup()


def _described(root: Path) -> str:
    """Ask as harvestd itself would."""
    sys.path.insert(0, str(root / "daemon"))
    try:
        from harvestd.commit import described  # noqa: PLC0415  (found only now)
    finally:
        sys.path.remove(str(root / "daemon"))
    return described(root)
