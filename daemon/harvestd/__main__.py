"""The console entry point: `harvestd`, and `python -m harvestd`."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from harvestd.cli.app import app
from harvestd.cli.errors import ended, print_bug


def main() -> NoReturn:
    """Run the command line and end the process with its exit code, one of `errors.ExitCode`."""
    # Python's default hook would print a host's text, or a secret, unescaped.
    sys.excepthook = print_bug
    # click's own error handling is switched off: `ended` prints all errors in one form.
    code = ended(lambda: app.main(prog_name="harvestd", standalone_mode=False))
    for stream in (sys.stdout, sys.stderr):
        # `ended` has already reported an output that can't be written; there is no other place to report it.
        with suppress(OSError, ValueError):
            stream.flush()
    # By now the command has closed what it opened, and no thread of ours is left. A regular exit of the interpreter
    # would first tear down a thousand modules, and delay the caller that waits for the exit code.
    os._exit(code)


if __name__ == "__main__":
    main()
