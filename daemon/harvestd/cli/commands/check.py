"""`harvestd check`, `forget-key` and `accept-root`: check the configuration, and two repairs on request."""

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
from harvestd.cli.flags import Flags, config_of, settings_of, with_flags, with_json, written_settings
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.output.units import count
from harvestd.errors import ExitCode, Fatal, HarvestError
from harvestd.harvest.context import target_of
from harvestd.inventory.file_sd import BadTargets, TargetsFiles
from harvestd.inventory.host import Host
from harvestd.inventory.providers import StaticHosts, merged
from harvestd.remote.ssh.auth import read_certificates, read_key_file
from harvestd.remote.ssh.config import ResolvedConfig, described, resolve
from harvestd.remote.ssh.target import Target
from harvestd.settings import InvalidSettings, Problem, Settings, warnings_for

_AT_ONCE = 8
"""Hosts whose configuration is resolved at the same time."""
_MOST_HOPS = 8


class _Findings:
    """The findings, each with the names of its hosts."""

    def __init__(self) -> None:
        self.hosts: dict[tuple[str, str, str], list[str]] = {}
        self.stale: dict[tuple[tuple[Path, ...], tuple[Path, ...]], tuple[str, ...]] = {}
        """Warnings about key files, by their paths and those of certificates: each is read once for all hosts."""

    def add(self, host: str, where: str, message: str, hint: str = "") -> None:
        """Add one finding about a host."""
        names = self.hosts.setdefault((where, message, hint), [])
        if host not in names:
            names.append(host)

    def problems(self) -> tuple[Problem, ...]:
        """Return each finding once."""
        return tuple(
            Problem(where, f"hosts[{','.join(sorted(names))}]", message, hint)
            for (where, message, hint), names in self.hosts.items()
        )


async def about_ssh(settings: Settings, hosts: Sequence[Host]) -> tuple[Problem, ...]:
    """Return problems of connecting to these hosts; no connection is made.

    The configuration files are read as for a connection, so commands of `Match exec` are run.
    """
    findings = _Findings()
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def examine(host: Host) -> None:
        async with limiter:
            await _examine(target_of(host, settings), findings)

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(examine, host)
    return findings.problems()


async def _examine(target: Target, findings: _Findings) -> None:
    name, files = target.called, ", ".join(map(str, target.config_files))
    for _ in range(_MOST_HOPS):
        try:
            with anyio.fail_after(target.connect_timeout.total_seconds()):
                config = await resolve(target)
                if config.ignored:
                    message = f"options that harvestd ignores: {described(sorted(config.ignored))}"
                    findings.add(name, files, message)
                files_of_keys = (config.identity_files or (), config.certificate_files)
                if files_of_keys not in findings.stale:
                    findings.stale[files_of_keys] = await anyio.to_thread.run_sync(_stale, target, config)
                for message in findings.stale[files_of_keys]:
                    findings.add(name, "", message)
                if not config.jump:
                    return
                target = target.jump(config.jump)
        except TimeoutError:
            findings.add(name, files, f"was not resolved within {target.connect_timeout.total_seconds():g} s")
            return
        except HarvestError as e:
            findings.add(name, "", str(e), e.hint)
            return


def _stale(target: Target, config: ResolvedConfig) -> tuple[str, ...]:
    """Return the warnings that using the key files would log."""
    certificates, warnings = read_certificates(target, config.certificate_files)
    files = (read_key_file(target, path, certificates) for path in config.identity_files or ())
    return (*warnings, *(warning for file in files for warning in file.warnings))


_CHECK = """\b
Exit codes: 0, 2 the configuration can't be used.

\b
--json: file, ok, hosts, problems[] and warnings[] {where, key, message, hint}
"""
_ACCEPT_ROOT = """\b
--json: host, identity, accepted (false: none was noted)
"""
_FORGET_KEY = """\b
Exit codes: 0, 4 unknown host.

\b
--json: host, identity, forgotten
"""


@click.command(epilog=_CHECK)
@with_json
@with_flags
@click.pass_obj
def check(flags: Flags, *, as_json: bool) -> ExitCode:
    """Check the configuration; every problem at once."""
    config = config_of(flags)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    hosts = 0
    try:
        settings = written_settings(flags)
    except InvalidSettings as error:
        if not as_json:
            raise
        problems = error.problems
    else:
        hosts, found = run_interruptible(_written_down, settings)
        found = (*found, *run_interruptible(about_receivers, settings))
        warnings = (*warnings_for(settings), *_about_state_dir(config, settings), *found)
    if as_json:
        print_json(
            {
                "file": str(config),
                "ok": not problems,
                "hosts": hosts,
                "problems": [_problem_document(each) for each in problems],
                "warnings": [_problem_document(each) for each in warnings],
            }
        )
    else:
        Page().line(f"{config}: ok, {count(hosts, 'host')}")
        for warning in warnings:
            print_warning(str(warning))
    return ExitCode.CONFIGURATION if problems else ExitCode.OK


def _about_state_dir(config: Path, settings: Settings) -> Iterator[Problem]:
    """Yield a problem where this user could not use state_dir: the daemon may run as another user."""
    problem = problem_with(settings.state) if settings.state_dir is not None else None
    if problem is not None:
        yield Problem(str(config), "state_dir", str(problem), problem.hint)


async def _written_down(settings: Settings) -> tuple[int, tuple[Problem, ...]]:
    """Return the number of hosts in files, and the problems in target files and SSH's configuration."""
    targets = TargetsFiles(settings.targets)
    problems: tuple[Problem, ...] = ()
    try:
        await targets.query()
    except BadTargets as e:
        problems = e.problems
    hosts = merged(StaticHosts(settings.hosts).hosts, targets.hosts)
    return len(hosts), (*problems, *await about_ssh(settings, sorted(hosts, key=lambda host: host.name)))


async def about_receivers(settings: Settings) -> tuple[Problem, ...]:
    """Return problems of the receivers of alarms; nothing is sent."""
    from harvestd.notify.receivers import problem_with  # noqa: PLC0415  (only where there are any)

    found = []
    for index, url in enumerate(settings.notify.urls):
        problem = await problem_with(url)
        if problem:
            found.append(Problem("", f"notify.urls[{index}]", problem))
    secret = settings.notify.webhook_secret_file
    if secret is not None and not secret.is_file():
        found.append(Problem(str(secret), "notify.webhook_secret_file", "does not exist or can't be read"))
    return tuple(found)


def _identity(settings: Settings, host: str) -> str:
    """Return the identity for `host`: a whole identity, a host of the file, or the last known host of that name."""
    static = f"{StaticHosts.name}:{host}"
    if ":" in host or host in {each.name for each in settings.hosts}:
        return host if ":" in host else static
    with queries.questions(settings.state) as connection:
        seen = {str(row.name): str(row.identity) for row in queries.hosts(connection)}
    return seen.get(host, static)


def _problem_document(problem: Problem) -> dict[str, str]:
    return {"where": problem.where, "key": problem.key, "message": problem.message, "hint": problem.hint}


@click.command("forget-key", epilog=_FORGET_KEY)
@click.argument("host", shell_complete=completion.hosts)
@with_json
@with_flags
@click.pass_obj
def forget_key(flags: Flags, host: str, *, as_json: bool) -> None:
    """Forget the SSH host key that is kept for HOST.

    For a box that was really replaced: the next connection keeps the key that it sees then. HOST is a name, of the
    configuration, of the cloud or gone, or a whole identity such as static:gpu-a or jump:bastion:22.
    """
    settings = settings_of(flags)
    identity = _identity(settings, host)
    is_forgotten = queries.forget_key(settings.state, identity)
    if is_forgotten:
        if not as_json:
            Page().line(f"the host key of {identity} is forgotten; the next connection keeps the one that it sees")
        pid = daemon_pid(settings)
        if pid:
            print_warning(
                "a running daemon leaves a refused host alone for a while", f"`kill -USR1 {pid}` makes it try now"
            )
    elif identity in {f"{StaticHosts.name}:{each.name}" for each in settings.hosts}:
        if not as_json:
            Page().line(f"no host key was kept for {identity}")
    else:
        raise Fatal(
            f"no host is called {host}, and no host key is kept for {identity}",
            hint=f"known: {', '.join(each.name for each in settings.hosts) or 'none'}",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    if as_json:
        print_json({"host": host, "identity": identity, "forgotten": is_forgotten})


@click.command("accept-root", epilog=_ACCEPT_ROOT)
@click.argument("host", shell_complete=completion.hosts)
@with_json
@with_flags
@click.pass_obj
def accept_root(flags: Flags, host: str, *, as_json: bool) -> None:
    """Accept the file systems that are mounted on HOST now.

    For a host whose verdict says that another file system than before is there, when that is right: after a new mount
    that changed its number, or a move to another disk. The next verdict notes what it finds.
    """
    settings = settings_of(flags)
    identity = _identity(settings, host)
    is_accepted = queries.accept_root(settings.state, identity)
    if as_json:
        print_json({"host": host, "identity": identity, "accepted": is_accepted})
    elif is_accepted:
        Page().line(f"the file systems of {identity} are forgotten; the next verdict notes those that it finds")
    else:
        Page().line(f"no file system was noted for {identity}")
