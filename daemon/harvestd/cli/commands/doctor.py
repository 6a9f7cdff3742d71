"""`harvestd doctor`: test everything that a pass needs, and show a page or a document.

The tests of `harvestd doctor`: this machine first, then each host. Nothing is changed anywhere. A pin of a first
connection is stored only in a copy of the catalogue.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import click

from harvestd.catalogue import queries
from harvestd.catalogue.state_dir import problem_with
from harvestd.cli import completion
from harvestd.cli.daemon import daemon_pid
from harvestd.cli.errors import print_warning, run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output import units
from harvestd.cli.output.page import Column, Page, Styled, print_json
from harvestd.convention.scan.snapshot import Listing, Snapshot, TreeState
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, HarvestError, HostQuarantined, Retry, concerns_all, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.host.passes import Found, failed_unexpectedly, find_hosts
from harvestd.harvest.startup import open_read_only_context
from harvestd.inventory.file_sd import BadTargets, TargetsFiles
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.remote.api import Box, BoxFacts
from harvestd.remote.ssh.connect import settled
from harvestd.settings import Settings
from harvestd.telemetry.log import configure

_CLOCK_TOLERANCE = 60.0
"""Seconds by which a host's clock may be off before it is reported; no feature relies on it alone."""


class Finding(Immutable):
    """The result of one test."""

    what: str
    said: str
    ok: bool = True
    hint: str = ""


class Examined(Immutable):
    """A host, or this machine."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing prevents a pass."""
        return all(finding.ok for finding in self.findings)


def examine_home(settings: Settings, daemon: int | None, found: Found) -> Examined:
    """Test this machine: data root, free space, catalogue, whether a daemon runs, and the providers of hosts."""
    running = f"process {daemon} is at work" if daemon is not None else "none runs"
    findings = (
        _data_root(settings.data_root),
        *_free_space(settings),
        *_state_dir(settings),
        _catalogue(settings),
        Finding("daemon", running),
        *_providers(settings, found),
    )
    return Examined("this machine", findings)


def _providers(settings: Settings, found: Found) -> Iterator[Finding]:
    """Yield the findings about providers other than [[hosts]], and their failures."""
    for failure in found.failures:
        what = "targets" if isinstance(failure, BadTargets) else "cloud"
        yield Finding(what, str(failure), ok=False, hint=failure.hint)
    failed = {isinstance(failure, BadTargets) for failure in found.failures}
    if settings.targets.files and True not in failed:
        yield Finding("targets", f"{_named_by(TargetsFiles.name, found)} of files looked at")
    if settings.lambda_cloud.enabled and False not in failed:
        yield Finding("cloud", f"{_named_by(LambdaCloudHosts.name, found)} of it looked at")


def _named_by(source: str, found: Found) -> str:
    return units.count(sum(host.source == source for host in found.hosts), "host")


def _data_root(path: Path) -> Finding:
    if path.is_dir():
        if os.access(path, os.W_OK | os.X_OK):
            return Finding("data root", f"{path} can be written")
        return Finding(
            "data root", f"{path} can't be written", ok=False, hint="check its owner, its mode and its mount"
        )
    if path.exists():
        return Finding("data root", f"{path} is no directory", ok=False, hint="set data_root to a directory")
    above = _existing(path)
    if os.access(above, os.W_OK | os.X_OK):
        return Finding("data root", f"{path} does not exist yet and will be made")
    hint = f"make it, or let {above} be written; is the disk mounted?"
    return Finding("data root", f"{path} does not exist and can't be made", ok=False, hint=hint)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.is_dir())


def _free_space(settings: Settings) -> tuple[Finding, ...]:
    free = shutil.disk_usage(_existing(settings.data_root)).free
    wanted = settings.limits.free_space
    if free >= wanted:
        return (Finding("free space", units.size(free)),)
    said = f"{units.size(free)}, and limits.free_space is {units.size(wanted)}"
    return (
        Finding("free space", said, ok=False, hint="make room, or lower limits.free_space; nothing is fetched now"),
    )


def _state_dir(settings: Settings) -> Iterator[Finding]:
    """Test the directory of the catalogue, where it is not in the data root."""
    if settings.state_dir is not None:
        problem = problem_with(settings.state)
        if problem is not None:
            yield Finding("state directory", str(problem), ok=False, hint=problem.hint)
        else:
            made = "can be written" if settings.state.is_dir() else "does not exist yet and will be made"
            yield Finding("state directory", f"{settings.state} {made}")


def _catalogue(settings: Settings) -> Finding:
    try:
        with queries.questions(settings.state) as connection:
            holdings = queries.holdings(connection).values()
            files = units.count(sum(each.files for each in holdings), "file")
            return Finding("catalogue", f"{files}, {units.count(len(queries.runs(connection)), 'run')}")
    except HarvestError as error:
        return Finding("catalogue", str(error), ok=False, hint=error.hint)


async def examine_hosts(settings: Settings, hosts: Sequence[Host]) -> list[Examined]:
    """Connect to these hosts concurrently, and test what a pass would read."""
    found: dict[str, Examined] = {}

    async def examine(host: Host, context: Context) -> None:
        try:
            with unwrapped():
                found[host.name] = Examined(host.name, await _host(host, context))
        except (Retry, HostQuarantined) as e:
            found[host.name] = Examined(host.name, (Finding("connection", str(e), ok=False, hint=e.hint),))
        except Exception as e:
            if concerns_all(e):
                raise
            failed = failed_unexpectedly(host, context, e)
            found[host.name] = Examined(host.name, (Finding("connection", str(failed), ok=False, hint=failed.hint),))

    with unwrapped():
        async with open_read_only_context(settings) as context, anyio.create_task_group() as tasks:
            for host in hosts:
                tasks.start_soon(examine, host, context)
    return [found[host.name] for host in hosts]


async def _host(host: Host, context: Context) -> tuple[Finding, ...]:
    started = time.monotonic()
    async with connected(host, context) as (box, facts):
        took = units.duration(time.monotonic() - started)
        before = time.time()
        snapshot = await box.scan()
        clock = _clock(snapshot, (before + time.time()) / 2, facts)
        return (
            Finding("connection", f"{await settled(context.target_of(host))} in {took}"),
            _read_by(box, facts),
            clock,
            Finding("GPUs", ", ".join(facts.gpu_names) or "none that nvidia-smi tells of"),
            Finding("free on the box", units.size(facts.free_bytes)),
            *(_tree(listing) for listing in snapshot.listings),
            *_rejected(snapshot),
        )


def _read_by(box: Box, facts: BoxFacts) -> Finding:
    if box.method == "probe":
        return Finding("read by", f"the probe, Python {facts.python}")
    why = box.without_probe
    return Finding("read by", f"SFTP alone{f': {why.reason}' if why else ''}", hint=why.hint if why else "")


def _clock(snapshot: Snapshot, now: float, facts: BoxFacts) -> Finding:
    hours = facts.utc_offset.total_seconds() / 3_600
    zone = "local time is UTC" if not hours else f"local time is UTC{hours:+g}h"
    if not snapshot.box_time_ns:
        return Finding("clock", f"not told; {zone}")
    off = snapshot.box_time_ns / 1e9 - now
    if abs(off) < _CLOCK_TOLERANCE:
        return Finding("clock", f"right; {zone}")
    direction = "ahead" if off > 0 else "behind"
    return Finding("clock", f"{units.duration(abs(off))} {direction}; {zone}", hint="does the box run an NTP client?")


def _tree(listing: Listing) -> Finding:
    tree = listing.tree
    if listing.state is TreeState.NO_ROOT:
        hint = "is its file system mounted? Otherwise set remote.roots, or roots in the host's table"
        return Finding("root", f"{tree.root} does not exist", ok=False, hint=hint)
    if listing.state is TreeState.BROKEN_LINK:
        hint = "is what it leads to mounted? Otherwise set remote.training_dirs and remote.eval_dirs"
        return Finding("tree", f"{tree} is a link that leads to no directory", ok=False, hint=hint)
    if listing.state is TreeState.DENIED:
        return Finding("tree", f"{tree} can't be read", ok=False, hint="may the box's user list it?")
    if listing.state is TreeState.TWIN:
        return Finding("tree", f"{tree} is a directory that another root or tree leads to, and taken there")
    if listing.state is TreeState.NO_TREE:
        return Finding("tree", f"{tree} is not there yet")
    kind = f" on {listing.filesystem}" if listing.filesystem else ""
    found = f"{tree}{kind}, entries: {len(listing.entries)}"
    if listing.drifts:
        found += ", inodes change by themselves: name, size and modification time of a file decide"
    if not listing.unreadable:
        return Finding("tree", found)
    said = f"{found}, directories that can't be read: {len(listing.unreadable)}"
    return Finding("tree", said, ok=False, hint="may the box's user list all of it?")


def _rejected(snapshot: Snapshot) -> tuple[Finding, ...]:
    if not snapshot.rejected:
        return ()
    return (Finding("names", f"{units.count(snapshot.rejected, 'name')} that can't be used here are left out"),)


_DOCTOR = """\b
Exit codes: 0, 3 something stands in the way, 4 unknown host.

\b
--json: ok, examined[] {name, ok, findings[] {what, said, ok, hint}}
"""
_FINDINGS = (Column("LOOKED AT"), Column(""), Column("FOUND", wide=True), Column("HINT", wide=True, mark="hint: "))


@click.command(epilog=_DOCTOR)
@click.argument("hosts", metavar="[HOST]...", nargs=-1, shell_complete=completion.hosts)
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
    home = examine_home(settings, daemon_pid(settings), found)
    catalogue_is_read = all(finding.ok for finding in home.findings if finding.what == "catalogue")
    # Without the stored host keys, an impostor could not be detected.
    examined = [
        home,
        *(run_interruptible(examine_hosts, settings, found.hosts) if catalogue_is_read else ()),
    ]
    if as_json:
        print_json(
            {"ok": all(each.ok for each in examined), "examined": [_examined_document(each) for each in examined]}
        )
    else:
        _write(Page(), examined)
        if not catalogue_is_read:
            print_warning("no host was tried: the kept host keys can't be read")
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
