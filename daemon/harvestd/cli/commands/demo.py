"""`harvestd demo`: an introduction for new users, and a test of an installation."""

from pathlib import Path

import click

from harvestd.cli.errors import run_interruptible
from harvestd.demo.show import show
from harvestd.errors import Fatal


@click.command
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave boxes, configuration and data root in this (new) directory.",
)
def demo(keep: Path | None) -> None:
    """Watch the daemon bring home an embedded fleet of made-up boxes; takes some twenty seconds."""
    if keep is not None:
        keep = _made(keep)
    raise SystemExit(int(run_interruptible(lambda: show(click.echo, keep=keep))))


def _made(directory: Path) -> Path:
    """Make a new directory and return its absolute path; raise `Fatal` where that is not possible."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise Fatal(f"{directory} exists already", hint="name a directory that `--keep` can make") from None
    except OSError as error:
        raise Fatal(f"{directory} can't be made: {error.strerror}") from error
    return directory.resolve()
