"""The console entry point: `harvestd`, and `python -m harvestd`."""

import sys

from harvestd.cli.app import app
from harvestd.cli.ending import ended


def main() -> None:
    """Run the command line and end the process with its exit code; what the codes mean stands in `errors.ExitCode`."""
    # The usual endings of click are switched off: `ended` says all errors in one form.
    sys.exit(ended(lambda: app.main(prog_name="harvestd", standalone_mode=False)))


if __name__ == "__main__":
    main()
