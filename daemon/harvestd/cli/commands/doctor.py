"""`harvestd doctor`: test everything that a pass needs, and show a page or a document."""

import sys

import click

from harvestd.cli import completion_values, diagnosis
from harvestd.cli.daemon.presence import daemon_pid
from harvestd.cli.diagnosis import Examined
from harvestd.cli.errors import tell_warning
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.interrupts import run_interruptible
from harvestd.cli.load_settings import settings_of
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.output.tables import Column, Styled
from harvestd.errors import ExitCode
from harvestd.harvest.host.passes import find_hosts
from harvestd.telemetry.log import configure

_DOCTOR = """\b
Exit codes: 0, 3 something stands in the way, 4 unknown host.

\b
--json: ok, examined[] {name, ok, findings[] {what, said, ok, hint}}
"""
_FINDINGS = (Column("LOOKED AT"), Column(""), Column("FOUND", wide=True), Column("HINT", wide=True, mark="hint: "))


@click.command(epilog=_DOCTOR)
@click.argument("hosts", metavar="[HOST]...", nargs=-1, shell_complete=completion_values.hosts)
@with_json
@with_flags
@click.pass_obj
def doctor(flags: Flags, hosts: tuple[str, ...], *, as_json: bool) -> ExitCode:
    """Try all that a pass over HOSTs (all) needs; changes nothing.

    The data root, its free space and the catalogue; then each host: key, log-in, how it is read, clock, GPUs, roots.
    """
    settings = settings_of(flags)
    configure(
        "console" if flags.log_format == "auto" else flags.log_format, flags.log_level or "error", stream=sys.stderr
    )
    found = run_interruptible(find_hosts, settings, hosts)
    home = diagnosis.examine_home(settings, daemon_pid(settings), found)
    catalogue_is_read = all(finding.ok for finding in home.findings if finding.what == "catalogue")
    # Without the stored host keys, an impostor could not be detected.
    examined = [
        home,
        *(run_interruptible(diagnosis.examine_hosts, settings, found.hosts) if catalogue_is_read else ()),
    ]
    if as_json:
        print_json(
            {"ok": all(each.ok for each in examined), "examined": [_examined_document(each) for each in examined]}
        )
    else:
        _write(Page(), examined)
        if not catalogue_is_read:
            tell_warning("no host was tried: the kept host keys can't be read")
    return ExitCode.OK if all(each.ok for each in examined) else ExitCode.PARTIAL


def _write(page: Page, examined: list[Examined]) -> None:
    good, bad = Styled("ok", "green"), Styled("FAILED", "red")
    for each in examined:
        page.heading(each.name)
        page.table(
            _FINDINGS,
            [
                (finding.what, good if finding.ok else bad, finding.said, Styled(finding.hint, "cyan"))
                for finding in each.findings
            ],
        )


def _examined_document(examined: Examined) -> dict[str, object]:
    findings = [{"what": each.what, "said": each.said, "ok": each.ok, "hint": each.hint} for each in examined.findings]
    return {"name": examined.name, "ok": examined.ok, "findings": findings}
