"""`harvestd install` and `uninstall`: write or remove the unit, its drop-in and a first configuration."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from harvestd.cli.output.page import Page
from harvestd.errors import ExitCode, Fatal
from harvestd.installation import (
    OWN_ACCOUNT,
    Site,
    Step,
    account_in,
    installing,
    managing,
    of_system,
    of_user,
    uninstalling,
)

BOOTED: Final = Path("/run/systemd/system")
"""Exists where systemd runs the machine: sd_booted(3)."""
_PROGRAM: Final = "harvestd"

_RUN_AS: Final = """\
Whose daemon it is, with that one's keys and files. Default: as before, else who called sudo, else an account "harvestd"
that is made."""

_user = click.option("--user", "for_user", is_flag=True, help="Your own daemon, in your own service manager.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.command
@_user
@click.option("--run-as", metavar="NAME", help=_RUN_AS)
@click.option("--now", is_flag=True, help="Enable and start it, too.")
@_dry_run
def install(run_as: str | None, *, for_user: bool, now: bool, dry_run: bool) -> None:
    """Write a systemd unit and a first configuration; safe to repeat.

    What was edited is left as it is, and each line says so. The machine's daemon may write to the data root of its
    configuration, and to nothing else of yours: after a change of data_root, install again.
    """
    if for_user and run_as:
        raise click.UsageError("--run-as is for the machine's daemon, --user is yourself")
    site = _site(run_as, for_user=for_user)
    executable = _executable()
    if site.is_closed(executable.resolve()):
        raise Fatal(
            f"{executable} lies in a home that is closed to the daemon of {site.account}",
            hint="install harvestd where all can read it, such as `python3 -m venv /opt/harvestd`",
        )
    page, is_first = _page(dry_run=dry_run), not site.unit.exists()
    changed = _carry_out(page, installing(site, executable), dry_run=dry_run)
    told = ["enable", "restart" if changed else "start"] if now else []
    _carry_out(page, _managed(site, [["daemon-reload"], *([verb, _PROGRAM] for verb in told)]), dry_run=dry_run)
    systemctl = " ".join(site.systemctl)
    if not now:
        page.line(f"next: {systemctl} enable --now {_PROGRAM}   (name your boxes in {site.config}, before or after)")
        if changed and not is_first:
            page.line(f"where it runs already: {systemctl} restart {_PROGRAM}")
    if for_user:
        page.line("to run without a login session: loginctl enable-linger")


@click.command
@_user
@_dry_run
def uninstall(*, for_user: bool, dry_run: bool) -> None:
    """Stop the daemon and take away what install wrote.

    All else stays: the data, the catalogue, the configuration, and a unit that was edited by hand.
    """
    site = _site(None, for_user=for_user)
    page = _page(dry_run=dry_run)
    if site.unit.exists():
        _carry_out(page, _managed(site, [["disable", "--now", _PROGRAM]]), dry_run=dry_run)
    _carry_out(page, uninstalling(site), dry_run=dry_run)
    _carry_out(page, _managed(site, [["daemon-reload"]]), dry_run=dry_run)
    page.line(f"left: {site.config}, and all that was brought home")
    if site.is_own_account:
        page.line(f"left: the account {site.account}, and its home {site.home}")


def _site(run_as: str | None, *, for_user: bool) -> Site:
    if for_user:
        if os.geteuid() == 0 and "SUDO_USER" in os.environ:
            raise Fatal("--user with sudo would mean root", hint="call it without sudo, as yourself")
        return of_user(os.environ)
    if os.geteuid() != 0:
        raise Fatal("the machine's units are root's", hint="call it with sudo, or with --user for a daemon of your own")
    caller = os.environ.get("SUDO_USER", "")
    return of_system(run_as or account_in() or (caller if caller != "root" else "") or OWN_ACCOUNT)


def _executable() -> Path:
    """Return the program of this process; raise `Fatal` where there is none that systemd could start."""
    called = Path(sys.argv[0])
    for found in (called, Path(sys.executable).with_name(_PROGRAM)):
        if found.name == _PROGRAM and found.is_file():
            return found.absolute()
    raise Fatal(f"no program {_PROGRAM} is installed beside {sys.executable}", hint="install it with pip or pipx")


def _page(*, dry_run: bool) -> Page:
    page = Page()
    if dry_run:
        page.line("nothing is done; without --dry-run this would be it:")
    return page


def _managed(site: Site, calls: Iterable[list[str]]) -> Iterable[Step]:
    if BOOTED.is_dir():
        return [managing(site, verbs) for verbs in calls]
    return [Step(f"not called, no systemd runs here: {' '.join((*site.systemctl, *verbs))}") for verbs in calls]


def _carry_out(page: Page, steps: Iterable[Step], *, dry_run: bool) -> bool:
    """Carry out and print each step; return whether the unit changed."""
    changed = False
    for step in steps:
        if not dry_run:
            try:
                step.do()
            except OSError as error:
                raise Fatal(f"{error.filename}: {error.strerror}", exit_code=ExitCode.PARTIAL) from error
        page.line(step.line)
        changed = changed or step.is_change
    return changed
