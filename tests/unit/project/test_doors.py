"""One door for local paths, one for remote names: what types and ruff can't see is looked up in the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import harvestd

SOURCES = Path(harvestd.__file__).parent
INSIDE = ("store/", "demo/", "remote/probe/program/", "report/scripts/")
"""The door itself, what plays boxes, what runs on them, and what runs away from harvestd on an experiment alone."""
OPENING = frozenset(
    (
        "chmod",
        "glob",
        "hardlink_to",
        "iterdir",
        "lchmod",
        "mkdir",
        "read_bytes",
        "read_text",
        "rglob",
        "rmdir",
        "symlink_to",
        "unlink",
        "write_bytes",
        "write_text",
    )
)
"""Methods of a path that open, list or change what is there, and that nothing else of ours is called like."""
ALLOWED = {
    "catalogue/engine.py": {"read_text": "the kernel's table of mounts"},
    "catalogue/state_dir.py": {"mkdir": "the operator's state_dir, above all that is filed"},
    "cli/commands/demo.py": {"mkdir": "the demo's own directory"},
    "cli/lazy_import.py": {"read_bytes": "Python's compiled files"},
    "commit.py": {"read_text": "what comes with this package"},
    "page/assets.py": {"iterdir": "static files, resources of this package", "read_bytes": "the same"},
    "report/analysis.py": {"iterdir": "scripts, resources of this package", "read_bytes": "the same"},
    "installation.py": {
        "chmod": "systemd's units and our configuration, away from the data root",
        "iterdir": "the same",
        "mkdir": "the same",
        "read_text": "the same",
        "rmdir": "the same",
        "unlink": "the same",
        "write_text": "the same",
    },
    "lambda_eval/job_files.py": {
        "iterdir": "the launcher's job files, away from the data root",
        "unlink": "our own half-written file beside one of them",
    },
    "settings/access.py": {"glob": "the drop-ins of systemd's unit", "read_text": "the unit and its drop-ins"},
    "remote/probe/protocol.py": {"read_text": "the box's program, a resource of this package"},
    "remote/ssh/config.py": {"read_text": "the operator's OpenSSH files"},
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module outside the door, by its place."""
    for path in sorted(SOURCES.rglob("*.py")):
        place = path.relative_to(SOURCES).as_posix()
        if not place.startswith(INSIDE):
            yield place, ast.parse(path.read_bytes())


def _opens(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id="open"):
                    yield "open"
                case ast.Attribute(attr=name) if name in OPENING:
                    yield name


def test_paths_are_opened_in_the_store_alone() -> None:
    """Each other place that opens a file is on the list, with what it is; a line of the list that is idle goes."""
    found = {place: names for place, module in _modules() if (names := set(_opens(module)))}
    assert found == {place: set(reasons) for place, reasons in ALLOWED.items()}


def test_nobody_joins_something_to_the_data_root() -> None:
    """Below the data root a place is a `LocalPath`: only its own `.harvestd` is named by the settings, for SQLite."""
    joined = {
        f"{place}: {ast.unparse(node)}"
        for place, module in _modules()
        for node in ast.walk(module)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and "data_root" in ast.unparse(node.left)
    }
    assert joined == {
        "cli/daemon.py: settings.data_root / RESERVED",
        "settings/access.py: settings.data_root / RESERVED",
        "settings/schema.py: self.data_root / '.harvestd'",
    }


def test_no_name_is_made_past_its_checks() -> None:
    """A name of a box and a place at home are checked when they are made; the one short cut stands beside the check."""
    past = {
        place
        for place, module in _modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"object.__new__", "tuple.__new__"}
    }
    assert past == {"convention/paths.py"}
