"""`harvestd verify`: check whether local files are unchanged since they were published, and repair them on request."""

import sys

import click
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli import show_details
from harvestd.cli.daemon import daemon_pid
from harvestd.cli.errors import print_warning, run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output import units
from harvestd.cli.output.page import Column, Page, Row, Styled, print_json
from harvestd.cli.output.pass_pages import progress_of
from harvestd.errors import ExitCode, Fatal
from harvestd.harvest import verification
from harvestd.harvest.audit import Finding, FindingKind
from harvestd.harvest.verification import Subject, set_catalogue_aside
from harvestd.harvest.verification import repair as repaired
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.settings import Settings
from harvestd.telemetry.log import configure

_VERIFY = """\b
Exit codes: 0 all is as it was filed, or was put right, 4 damage found, or an
unknown name, 7 --repair while a daemon is at work.

\b
--json: files, bytes, damaged, repaired (null without --repair),
findings[] {kind, path, detail, damage}
"""
_DAMAGE_FOUND = ExitCode.UNKNOWN_NAME
"""4 as well: a requested file or name is not there as it should be."""
_COLUMNS = (Column("WHAT"), Column("PATH", wide=True), Column("DETAIL", wide=True, mark="  "))
_BAR = "hashed"


@click.command(epilog=_VERIFY)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--repair", is_flag=True, help="Set damaged files aside, so that the next pass fetches them anew.")
@with_json
@with_flags
@click.pass_obj
def verify(flags: Flags, names: tuple[str, ...], *, repair: bool, as_json: bool) -> ExitCode:
    """Hash all that is here again; --repair sets aside what is damaged.

    NAMEs are experiments or runs (all). A file that was changed or deleted here is told, and left as it is. With
    --repair a changed one moves to .harvestd/versions/, and both are fetched anew by the next pass if a box still has
    them; one that only has another name or directory in an experiment is copied back to its place. A catalogue that
    can't be read is set aside and made anew from the manifests. Nothing is ever deleted.
    """
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "error", stream=sys.stderr)
    if repair and daemon_pid(settings) is not None:
        raise Fatal("a daemon is at work", hint="stop it, then repair", exit_code=ExitCode.LOCKED)
    found = verification.catalogue_findings(settings)
    subject = Subject((), ())
    if not found:
        with queries.questions(settings.state) as connection:
            subject = _subject(connection, names)
            found = _findings(settings, connection, subject)
    left = _repair(settings, found) if repair else None
    damaged = [finding for finding in found if finding.is_damage]
    if as_json:
        print_json(
            {
                "files": len(subject.files),
                "bytes": subject.size,
                "damaged": len(damaged),
                "repaired": None if left is None else len(damaged) - len(left),
                "findings": [_document(finding) for finding in found],
            }
        )
    else:
        _write(Page(), subject, found, left)
    return _DAMAGE_FOUND if (damaged if left is None else left) else ExitCode.OK


def _subject(connection: Connection, names: tuple[str, ...]) -> Subject:
    if not names:
        return verification.everything(connection)
    shown = [show_details.find(connection, name) for name in names]
    experiments: list[ExperimentRecord] = [each.experiment for each in shown if each.experiment is not None]
    return Subject([file for each in shown for file in each.files], experiments)


def _findings(settings: Settings, connection: Connection, subject: Subject) -> list[Finding]:
    with progress_of([_BAR], sys.stderr) as (monitor, _):
        monitor.planned(_BAR, subject.size, len(subject.files))

        def checked(file: FileRecord) -> None:
            monitor.moved(_BAR, file.size)
            monitor.settled(_BAR, 1)

        return list(verification.findings(settings, connection, subject, checked))


def _repair(settings: Settings, found: list[Finding]) -> list[Finding]:
    if any(finding.kind is FindingKind.CATALOGUE for finding in found):
        aside = set_catalogue_aside(settings)
        print_warning(
            f"the catalogue was set aside: {aside}", "host keys were in it: compare those that are pinned now"
        )
    return run_interruptible(repaired, settings, found)


def _document(finding: Finding) -> dict[str, object]:
    return {"kind": finding.kind, "path": finding.path, "detail": finding.detail, "damage": finding.is_damage}


def _write(page: Page, subject: Subject, found: list[Finding], left: list[Finding] | None) -> None:
    page.table(_COLUMNS, [_row(finding) for finding in found])
    damaged = sum(finding.is_damage for finding in found)
    verdict = f"{damaged} damaged" if damaged else "all as it was filed"
    if left is not None and damaged:
        verdict += f", {damaged - len(left)} put right"
    page.line(f"{units.count(len(subject.files), 'file')}, {units.size(subject.size)} hashed: {verdict}")
    if damaged and left is None:
        page.line("`harvestd verify --repair` sets damaged files aside; the next pass fetches them anew")


def _row(finding: Finding) -> Row:
    kind = Styled(str(finding.kind), "red" if finding.is_damage else "dim")
    return (kind, finding.path, finding.detail)
