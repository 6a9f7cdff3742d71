"""`harvestd demo`: a first look for newcomers, and the proof after an installation that all of it works here."""

from pathlib import Path

import anyio
import click

from harvestd.demo.show import show


@click.command
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave boxes, configuration and data root in this (new) directory.",
)
def demo(keep: Path | None) -> None:
    """Watch the daemon bring home an embedded fleet of made-up boxes; takes some twenty seconds."""
    if keep is not None:
        keep.mkdir(parents=True)
        keep = keep.resolve()
    raise SystemExit(int(anyio.run(lambda: show(click.echo, keep=keep))))
