"""The program for the box, as text: what it may use, and how it is started."""

import ast
import re
import shlex
import sys
from pathlib import Path

from harvestd.remote.probe import bootstrap, box_program

SOURCE = Path(box_program.__file__).read_text()
TREE = ast.parse(SOURCE)


def test_is_python_3_6() -> None:
    """Nothing in it is newer than Python 3.6: neither syntax nor annotations that would be evaluated."""
    ast.parse(SOURCE, feature_version=(3, 6))
    functions = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
    evaluated = [node.returns for node in functions] + [a.annotation for node in functions for a in node.args.args]
    parts = [part for annotation in evaluated if annotation for part in ast.walk(annotation)]
    assert parts
    assert not [part for part in parts if isinstance(part, ast.Subscript | ast.BinOp)]
    assert not [node for node in TREE.body if isinstance(node, ast.AnnAssign)]


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
    """It uses no call that could change a file: every open is for reading, every write goes to standard output."""
    forbidden = {
        "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "chmod", "chown", "utime", "truncate", "ftruncate",
        "symlink", "link", "mkfifo", "mknod", "O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "setxattr",
    }  # fmt: skip
    names = {
        node.attr for node in ast.walk(TREE) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"
    }
    assert {"open", "stat", "pread"} <= names
    assert not names & forbidden
    opens = re.findall(r"(?<![.\w])(?<!def )open\((.*?)\)", SOURCE)
    assert sorted(opens) == ['"/proc/self/mountinfo", "rb"', 'os.devnull, "r+b"']
    assert re.findall(r"os\.write\((\w+),", SOURCE) == ["1"]


def test_command_survives_any_shell() -> None:
    """The command is three plain words for the log-in shell, with nothing that bash, fish or csh would expand."""
    command = bootstrap.command()
    shell, flag, script = shlex.split(command)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert command == f"/bin/sh -c '{script}'"
    assert not set(script) & set("'\\!`\n")
    assert "-I -S -B" in script


def test_opening_holds_the_program_and_then_the_greeting() -> None:
    """The length in the command is exactly the program's."""
    (size,) = map(int, re.findall(r"read\((\d+)\)", bootstrap.command()))
    opening = bootstrap.opening("marker", bootstrap.Pulse(), 1000)
    greeting = {"do": "hello", "marker": "marker", "silence": 60.0, "credit": 1000}
    assert opening[size:] == bootstrap.message(greeting)
