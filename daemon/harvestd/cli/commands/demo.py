"""`harvestd demo`: an introduction for new users, and a test of an installation."""

from contextlib import suppress
from pathlib import Path

import click

from harvestd.cli.errors import run_interruptible
from harvestd.demo.show import show
from harvestd.errors import ExitCode, Fatal


@click.command
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave boxes, configuration and data root in this (new) directory.",
)
@click.option("--serve", is_flag=True, help="Show it on the page, more slowly, until Ctrl-C.")
def demo(keep: Path | None, *, serve: bool) -> None:
    """Watch the daemon bring home an embedded fleet of made-up boxes; takes some twenty seconds."""
    if keep is not None:
        keep = _made(keep)
    if serve:
        from harvestd.demo.serve import serve_page  # noqa: PLC0415  (the page is an extra)

        with suppress(KeyboardInterrupt):
            run_interruptible(lambda: serve_page(click.echo, keep=keep))
        raise SystemExit(int(ExitCode.OK))
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
