"""The console entry point: `harvestd`, and `python -m harvestd`."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from harvestd.cli.app import app
from harvestd.cli.errors import ended, tell_bug


def main() -> NoReturn:
    """Run the command line and end the process with its exit code; what the codes mean stands in `errors.ExitCode`."""
    # Python's own would quote a box's text, or a secret, as it came.
    sys.excepthook = tell_bug
    # The usual endings of click are switched off: `ended` says all errors in one form.
    code = ended(lambda: app.main(prog_name="harvestd", standalone_mode=False))
    for stream in (sys.stdout, sys.stderr):
        # `ended` has said already what can't be written; there is nobody left to tell.
        with suppress(OSError, ValueError):
            stream.flush()
    # By now a command has closed what it opened, and no thread of ours is left. The interpreter would go on to take a
    # thousand modules apart, one by one, before whoever waits for the exit code gets it.
    os._exit(code)


if __name__ == "__main__":
    main()
