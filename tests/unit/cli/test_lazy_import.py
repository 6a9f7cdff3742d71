"""What a command imports, and what it keeps away while it does."""

import ctypes.util
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.cli import lazy_import
from harvestd.cli.lazy_import import imported
from support.command import environment

NEVER = {"alembic", "httpx", "pydantic_settings", "rich"}
"""What no command needs off a terminal, with a catalogue at the newest schema, nothing in the environment, no cloud."""
SCRIPT = """
import json, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {"subprocess.Popen", "os.posix_spawn"} else None)
from harvestd.cli.app import app
app.main(sys.argv[1:], prog_name="harvestd", standalone_mode=False)
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), started]), file=sys.__stderr__)
"""
PROBE = """
import ctypes.util, gc
try:
    import rich
    has_rich = True
except ImportError:
    has_rich = False
collects, libc = gc.isenabled(), ctypes.util.find_library("c")
"""


@pytest.mark.parametrize(("command", "needless"), [("once", set()), ("plan", set()), ("status", {"asyncssh"})])
def test_a_command_imports_only_what_it_needs(tmp_path: Path, command: str, needless: set[str]) -> None:
    """A pass off a terminal, into a new data root too, brings up neither rich nor Alembic, and starts no compiler."""
    config = tmp_path / "harvestd.toml"
    config.write_text('version = 1\ndata_root = "home"\n')
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, command, "-c", config],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
            timeout=30,
        )
        loaded, started = json.loads(done.stderr.splitlines()[-1])
        assert not set(loaded) & (NEVER | needless)
        assert "sqlalchemy" in loaded
        assert started == []


@pytest.mark.parametrize("command", ["once", "run"])
def test_the_catalogue_is_imported_while_hosts_are_connected(command: str) -> None:
    """What waits for the network anyway imports the database and YAML then, not before the first connection."""
    script = (
        "import sys, json\n"
        "from harvestd.cli.lazy_import import imported\n"
        f"imported('harvestd.cli.commands.{command}')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment(), timeout=30
    )
    loaded = set(json.loads(done.stdout))
    assert "asyncssh" in loaded
    assert not loaded & {"sqlalchemy", "yaml", "harvestd.harvest.host.loop", "cryptography.x509"}


def test_what_is_kept_away_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command's file is imported rich looks missing and no cycles are collected; after it all is as before."""
    (tmp_path / "probing_the_import.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    usual = ctypes.util.find_library
    found = imported("probing_the_import")
    assert (found.has_rich, found.collects) == (False, False)
    assert found.libc == usual("c")
    assert "rich" not in sys.modules
    assert gc.isenabled()
    assert ctypes.util.find_library is usual


def test_a_failing_import_leaves_nothing_behind() -> None:
    """An import that raises leaves the interpreter as it was."""
    usual = ctypes.util.find_library
    with pytest.raises(ModuleNotFoundError):
        imported("harvestd.no_such_module")
    assert gc.isenabled()
    assert ctypes.util.find_library is usual


def test_the_cache_names_what_can_be_loaded() -> None:
    """A library is found by its bare name alone, and one that can't be loaded here counts as missing."""
    content = b"ld.so\0libm.so.6\0/lib/libm.so.6\0libmissing.so.1\0/lib/libmissing.so.1\0libxm.so.1\0"
    assert lazy_import.in_cache(content, "m") == "libm.so.6"
    assert lazy_import.in_cache(content, "missing") is None
    assert lazy_import.in_cache(content, "x") is None


def test_without_a_cache_the_usual_search_remains(tmp_path: Path) -> None:
    """Where the linker keeps no cache, as musl's, libraries are looked for as Python does."""
    usual = ctypes.util.find_library
    with lazy_import.asking_the_cache(tmp_path / "none"):
        assert ctypes.util.find_library is usual
