"""The words of the code: docstrings begin as the language's own do."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
BANNED = ("Give", "Gives", "Tell", "Tells", "Hear", "Hears", "Say", "Says")
"""First words that say nothing of what is returned, raised or written."""
COMMANDS = {"cli/commands"}
"""A command's docstring is its help, which speaks to a person."""


def openers(path: Path) -> list[str]:
    """Return the places in a module whose docstrings begin with a banned word."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        if text and text.split(maxsplit=1)[0].rstrip(".,;:") in BANNED:
            found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    return found


def test_docstrings_begin_with_what_is_done() -> None:
    """With Return, Raise, Write, Wait …: a reader finds at the first word what a function is for."""
    modules = [path for top in ("daemon", "tests") for path in (ROOT / top).rglob("*.py")]
    assert len(modules) > 500
    checked = [path for path in modules if not any(each in path.as_posix() for each in COMMANDS)]
    assert [line for path in checked for line in openers(path)] == []
