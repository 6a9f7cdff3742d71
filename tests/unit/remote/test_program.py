"""The program for the box, as text: what it may use, and how it is started."""

import ast
import re
import shlex
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

from harvestd.remote.probe import protocol
from harvestd.remote.probe.program import FILES, LATER
from harvestd.remote.probe.program.requests import tidy

SOURCES = {
    name: resources.files("harvestd.remote.probe.program").joinpath(f"{name}.py").read_text("utf-8")
    for name in (*FILES, *LATER)
}
PROGRAM = protocol.program() + protocol.later()
"""With what is sent later, which works in the same place."""
TREE = ast.parse(PROGRAM)


def test_every_module_is_sent() -> None:
    """No module of the program is forgotten in the list of those that are joined."""
    there = {each.name for each in resources.files("harvestd.remote.probe.program").iterdir()}
    assert there - {"__init__.py", "__pycache__"} == {f"{name}.py" for name in (*FILES, *LATER)}


@pytest.mark.parametrize("name", [*FILES, *LATER])
def test_is_python_3_6(name: str) -> None:
    """Nothing in it is newer than Python 3.6: neither syntax nor annotations that would be evaluated."""
    tree = ast.parse(SOURCES[name], feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    evaluated = [node.returns for node in functions] + [a.annotation for node in functions for a in node.args.args]
    parts = [part for annotation in evaluated if annotation for part in ast.walk(annotation)]
    assert parts
    assert not [part for part in parts if isinstance(part, ast.Subscript | ast.BinOp)]
    assert not [node for node in tree.body if isinstance(node, ast.AnnAssign)]


def test_joined_it_is_one_program() -> None:
    """It parses, has every import of its parts left out, no name twice, and no comment to be sent for nothing."""
    ast.parse(PROGRAM, feature_version=(3, 6))
    assert "harvestd" not in PROGRAM
    assert not re.search(r"^ *#", PROGRAM, re.MULTILINE)
    assert not [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)]
    defined = Counter(
        name
        for node in TREE.body
        for name in (
            [node.name]
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [each.id for each in node.targets if isinstance(each, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
    )
    assert {name for name, times in defined.items() if times > 1} <= {"TYPE_CHECKING"}


def test_uses_every_name_that_its_parts_import_of_each_other() -> None:
    """What one part takes from another is defined in one that comes before it in the joined program."""
    defined: set[str] = set()
    for name in (*FILES, *LATER):
        tree = ast.parse(SOURCES[name])
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("harvestd"):
                assert {alias.name for alias in node.names} <= defined
                assert not [alias for alias in node.names if alias.asname]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Assign):
                targets = [part for each in node.targets for part in ast.walk(each)]
                defined |= {part.id for part in targets if isinstance(part, ast.Name)}


def test_stands_alone() -> None:
    """It imports the standard library only."""
    imported = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= sys.stdlib_module_names


def test_never_writes() -> None:
    """It uses no call that could change a file: every open is for reading, every write goes out or to itself."""
    forbidden = {
        "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "chmod", "chown", "utime", "truncate", "ftruncate",
        "symlink", "link", "mkfifo", "mknod", "O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "setxattr",
    }  # fmt: skip
    names = {
        node.attr for node in ast.walk(TREE) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"
    }
    assert {"open", "stat", "pread"} <= names
    assert not names & forbidden
    opens = re.findall(r"(?<![.\w])(?<!def )open\((.*?)\)", PROGRAM)
    assert set(opens) == {
        '"/proc/self/mountinfo", "rb"',
        'QUOTA, "rb"',
        'os.devnull, "r+b"',
        'os.devnull, "rb"',
        'MACHINE_ID, "rb"',
        'utmp, "rb"',
        'proc + "/1/stat", "rb"',
        'f"{proc}/{number}/stat", "rb"',
        'f"{proc}/{pid}/cmdline", "rb"',
        'f"{NVIDIA_GPUS}/{gpu}/information", "rb"',
        'self.place + "/io", "rb"',
        'place + "/environ", "rb"',
    }
    assert sorted(re.findall(r"os\.write\(([\w.]+),", PROGRAM)) == ["1", "self.wake"]
    calls = set(re.findall(r"self\.libc\.(\w+)", PROGRAM))
    assert calls == {"inotify_init1", "inotify_add_watch", "inotify_rm_watch"}


def test_command_survives_any_shell() -> None:
    """The command is three plain words for the log-in shell, with nothing that bash, fish or csh would expand."""
    command = protocol.command()
    shell, flag, script = shlex.split(command)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert command == f"/bin/sh -c '{script}'"
    assert not set(script) & set("'\\!`\n")
    assert "-I -S -B" in script


def test_opening_holds_the_program_and_then_the_greeting() -> None:
    """The length in the command is exactly the program's."""
    (size,) = map(int, re.findall(r"read\((\d+)\)", protocol.command()))
    opening = protocol.opening("marker", protocol.Pulse(), {"s": 1000})
    greeting = {"do": "hello", "marker": "marker", "silence": 60.0, "credit": {"s": 1000}}
    assert opening[size:] == protocol.message(greeting)


def test_fits_the_first_round_trip() -> None:
    """Program and greeting are no more than a new TCP connection may send at once."""
    ten_segments = 10 * 1460
    assert len(protocol.opening("m" * 32, protocol.Pulse(), {"s": 1000})) < ten_segments


def test_security_page_states_the_size_of_the_program() -> None:
    """Both parts, within a tenth; whoever reviews what runs on a host reads that page first."""
    page = Path(__file__).parents[3].joinpath("SECURITY.md").read_text("utf-8")
    stated = re.search(r"some\s+([\d,]+) lines that travel with each\s+connection and some ([\d,]+) more", page)
    assert stated is not None
    for number, names in zip(stated.groups(), (FILES, LATER), strict=True):
        size = sum(len(SOURCES[name].splitlines()) for name in names)
        assert int(number.replace(",", "")) == pytest.approx(size, rel=0.1)


def test_security_page_names_every_program_that_is_started() -> None:
    """Nothing but nvidia-smi and git, with the commands that are listed there."""
    page = Path(__file__).parents[3].joinpath("SECURITY.md").read_text("utf-8")
    assert PROGRAM.count("subprocess.Popen(") == 2
    for question in re.findall(r'"(--query-[^"]+)"', PROGRAM):
        assert f"nvidia-smi {question}" in page
    asked = re.findall(
        r'\((?:[\w.]+, )?"(ls-files|status|diff\S*|rev-\S+|config|version|log|show|stash|fetch)"', PROGRAM
    )
    assert {"ls-files", "rev-list"} <= set(asked)
    assert all(f"`{command}`" in page for command in asked)


def test_memory_is_freed_while_another_thread_imports_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is listed before it has its content: the program ended with an error then, and the host was lost."""
    monkeypatch.setitem(sys.modules, "ctypes", ModuleType("ctypes"))
    tidy()
