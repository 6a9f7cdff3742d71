"""End a command: print errors as `error: …` and `hint: …` on standard error, set the exit code, and handle Ctrl-C.

End a command: print errors as `error: …` and `hint: …` on standard error, and set the exit code for scripts. A
traceback is printed for bugs only. An error's text may quote a host or a file, so all of it is escaped, and what
looks like a secret is hidden.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

import anyio
import click

from harvestd.errors import DiskFull, ExitCode, Fatal, HaltedForSafety, HarvestError
from harvestd.telemetry.sanitize import escaped, masked

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit code that a shell uses for a process ended by SIGINT."""
_READER_GONE: Final = 1
"""click's own exit code where the pipe breaks earlier."""
_STYLES: Final = {"bug": "red", "error": "red", "warning": "yellow", "hint": "cyan"}


def ended(work: Callable[[], object]) -> int:
    """Run a command and return its exit code: its result, or the code of its error."""
    try:
        result = work()
        with answering():
            sys.stdout.flush()
    except HarvestError as error:
        print_error(error)
        return exit_code_of(error)
    except click.ClickException as error:
        _log_usage(error)
        return ExitCode.CONFIGURATION
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed the pipe.
        _abandon_output()
        return _READER_GONE
    return int(result) if isinstance(result, int) else ExitCode.OK


@contextmanager
def answering() -> Iterator[None]:
    """Raise `HaltedForSafety` where the body can't write to standard output, except when its reader closed the pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _abandon_output()
        raise HaltedForSafety(f"the answer can't be written: {error.strerror}") from error


def _abandon_output() -> None:
    """Redirect standard output, so that the interpreter's flush at exit does not fail once more."""
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


def print_error(error: HarvestError) -> None:
    """Print an error and its hint on standard error."""
    # A Fatal error is about this machine and may have several lines; in other errors a host may have injected them.
    text = masked(str(error))
    _print_lines("error", text.splitlines() if isinstance(error, Fatal) else [text])
    if error.hint:
        _print_lines("hint", error.hint.splitlines())


def print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected exception with its traceback on standard error; replaces `sys.excepthook`."""
    import traceback  # noqa: PLC0415  (for bugs alone)

    _print_lines("bug", masked("".join(traceback.format_exception(kind, error, trace))).splitlines())


def print_warning(sentence: str, hint: str = "") -> None:
    """Print a warning on standard error."""
    _print_lines("warning", [sentence])
    if hint:
        _print_lines("hint", [hint])


def _log_usage(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    _print_lines("error", [error.format_message()])
    if isinstance(context, click.Context):
        _print_lines("hint", [f"see `{context.command_path} --help`"])


def _print_lines(kind: str, lines: list[str]) -> None:
    head = f"{kind}:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        head = click.style(head, fg=_STYLES[kind], bold=True)
    first, *rest = [escaped(masked(line)) for line in lines] or [""]
    for line in (f"{head} {first}", *rest):
        # Not every locale can represent every name: an escaped name is better than a failure while printing an error.
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()


_Result = TypeVar("_Result")


def run_interruptible(work: Callable[..., Awaitable[_Result]], *arguments: object) -> _Result:
    """Run `work` in an event loop and return its result; raise `KeyboardInterrupt` where Ctrl-C cancelled it.

    An event loop cancels its main task once, and a library that swallows this cancellation would run on; a cancel scope
    cancels until the work has ended. A second Ctrl-C ends the process at once.
    """
    ended = anyio.run(_run, partial(work, *arguments))
    if ended is None:
        raise KeyboardInterrupt
    return ended[0]


async def _run(work: Callable[[], Awaitable[_Result]]) -> tuple[_Result] | None:
    working = anyio.CancelScope()

    def cancel() -> None:
        if working.cancel_called:
            os._exit(INTERRUPTED)
        working.cancel()

    if threading.current_thread() is threading.main_thread():  # only the main thread receives signals
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, cancel)
    with working:
        return (await work(),)
    return None
