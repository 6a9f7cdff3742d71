"""`harvestd report`: write README, scripts and pictures of one experiment, with or without a running daemon."""

from functools import partial

import anyio
import anyio.to_thread
import click

from harvestd.catalogue import queries
from harvestd.cli import completion, show_details
from harvestd.cli.errors import run_interruptible, tell_warning
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.show_details import Shown
from harvestd.convention.paths import ANALYSIS, README
from harvestd.errors import ExitCode, Fatal
from harvestd.report import making, pictures
from harvestd.report.configured import Known
from harvestd.report.eval_memory import Evals
from harvestd.report.making import Drawing, Written
from harvestd.settings import Settings
from harvestd.store.root import DataRoot

_REPORT = """\b
Exit codes: 0, 3 a script failed, 4 unknown name, or one that two runs have.

\b
--json: experiment, readme, changed, scripts_written[], scripts_edited[],
pictures[], drawn, failed[] {script, error}
"""


@click.command(epilog=_REPORT)
@click.argument("name", shell_complete=completion.runs_and_experiments)
@with_json
@with_flags
@click.pass_obj
def report(flags: Flags, name: str, *, as_json: bool) -> ExitCode:
    """Make an experiment's README and pictures anew.

    The scripts in analysis/ come with them; one that a person edited stays as it is, and its picture is theirs.
    Pictures need matplotlib. NAME is an experiment's directory or id, or the name of a run.
    """
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        known = _known(show_details.find(connection, name), name)
    written, drawing = run_interruptible(partial(_make, settings, known))
    failed = drawing.drawn.failed if drawing else {}
    if drawing is None:
        tell_warning("matplotlib is not installed: no pictures", "pip install 'harvestd[analysis]'")
    for script, error in failed.items():
        tell_warning(f"{script} failed: {error}")
    if as_json:
        print_json(_document(known, written, drawing))
    else:
        _write(Page(), known, written, drawing)
    return ExitCode.PARTIAL if failed else ExitCode.OK


def _known(shown: Shown, name: str) -> Known:
    if shown.experiment is None:
        raise Fatal(
            f"{name} has no experiment yet",
            hint="`harvestd plan` says what it waits for",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return Known(shown.experiment, shown.runs, shown.files, shown.left_out)


async def _make(settings: Settings, known: Known) -> tuple[Written, Drawing | None]:
    reader = Evals()
    root = await anyio.to_thread.run_sync(partial(DataRoot.open, settings.data_root, create=False))
    with root:
        try:
            written = await anyio.to_thread.run_sync(making.write, root, known, reader)
            if not pictures.can_draw():
                return written, None
            drawing = await making.draw(root, known, written.placed, pictures.cache_in(settings.state))
            await anyio.to_thread.run_sync(making.hang, root, known, drawing, reader)
        except FileNotFoundError as error:
            raise Fatal(
                f"the directory {known.experiment.directory} is not there",
                hint="`harvestd show` says where the experiment is",
                exit_code=ExitCode.UNKNOWN_NAME,
            ) from error
        return written, drawing


def _document(known: Known, written: Written, drawing: Drawing | None) -> dict[str, object]:
    drawn = drawing.drawn if drawing else None
    return {
        "experiment": known.experiment.directory,
        "readme": f"{known.experiment.directory}/{README}",
        "changed": written.changed,
        "scripts_written": list(written.placed.written),
        "scripts_edited": sorted(written.placed.edited),
        "drawn": drawn is not None,
        "pictures": sorted(drawn.pictures) if drawn else [],
        "failed": [{"script": script, "error": error} for script, error in (drawn.failed if drawn else {}).items()],
    }


def _write(page: Page, known: Known, written: Written, drawing: Drawing | None) -> None:
    directory = known.experiment.directory
    page.line(f"{directory}/{README}")
    for name in sorted(written.placed.edited):
        page.line(f"{directory}/{ANALYSIS}/{name} was edited here, and stays as it is")
    for name in sorted(drawing.drawn.pictures) if drawing else ():
        page.line(f"{directory}/{ANALYSIS}/{name}")
