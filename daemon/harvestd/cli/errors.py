"""How a command ends: every error as `error: …` and `hint: …` on standard error, and the exit code scripts rely on.

A traceback is shown for bugs alone. What an error says may quote a box or a file, so all of it is escaped, and what
looks like a secret is hidden.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

import click

from harvestd.errors import DiskFull, ExitCode, Fatal, HaltedForSafety, HarvestError
from harvestd.telemetry.masking import masked
from harvestd.telemetry.sanitize import escaped

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit code that a shell gives to what SIGINT ended."""
_READER_GONE: Final = 1
"""As click itself ends where the pipe breaks earlier."""
_STYLES: Final = {"bug": "red", "error": "red", "warning": "yellow", "hint": "cyan"}


def ended(work: Callable[[], object]) -> int:
    """Do the work of a command and give the exit code: what it returns, or what its error stands for."""
    try:
        result = work()
        with answering():
            sys.stdout.flush()
    except HarvestError as error:
        tell_error(error)
        return exit_code_of(error)
    except click.ClickException as error:
        _tell_usage(error)
        return ExitCode.CONFIGURATION
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read the answer has seen enough.
        _abandon_answer()
        return _READER_GONE
    return int(result) if isinstance(result, int) else ExitCode.OK


@contextmanager
def answering() -> Iterator[None]:
    """Raise `HaltedForSafety` where the body can't write to standard output, unless its reader has simply gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _abandon_answer()
        raise HaltedForSafety(f"the answer can't be written: {error.strerror}") from error


def _abandon_answer() -> None:
    """Keep the interpreter from complaining once more, when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def exit_code_of(error: HarvestError) -> ExitCode:
    """Return the exit code for an error that ended a whole command."""
    match error:
        case Fatal():
            return error.exit_code
        case DiskFull():
            return ExitCode.DISK_FULL
        case _:
            return ExitCode.PARTIAL


def tell_error(error: HarvestError) -> None:
    """Say an error and its way out on standard error."""
    # What is Fatal is about this machine and may have lines; of anything else, lines could be a box's doing.
    text = masked(str(error))
    _tell("error", text.splitlines() if isinstance(error, Fatal) else [text])
    if error.hint:
        _tell("hint", error.hint.splitlines())


def tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what nobody caught on standard error, with its traceback; stands in for `sys.excepthook`."""
    import traceback  # noqa: PLC0415  (for bugs alone)

    _tell("bug", masked("".join(traceback.format_exception(kind, error, trace))).splitlines())


def tell_warning(sentence: str, hint: str = "") -> None:
    """Say on standard error what is no error and yet deserves a word."""
    _tell("warning", [sentence])
    if hint:
        _tell("hint", [hint])


def _tell_usage(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    _tell("error", [error.format_message()])
    if isinstance(context, click.Context):
        _tell("hint", [f"see `{context.command_path} --help`"])


def _tell(kind: str, lines: list[str]) -> None:
    head = f"{kind}:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        head = click.style(head, fg=_STYLES[kind], bold=True)
    first, *rest = [escaped(masked(line)) for line in lines] or [""]
    for line in (f"{head} {first}", *rest):
        # Not every locale can show every name: better written out than a failure while telling of one.
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()
