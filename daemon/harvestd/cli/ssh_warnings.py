"""SSH problems for `harvestd check`: ignored options, unusable files, keys with stale files beside them."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from harvestd.errors import HarvestError
from harvestd.harvest.context import target_of
from harvestd.inventory.host import Host
from harvestd.remote.ssh.config import ResolvedConfig, resolve
from harvestd.remote.ssh.config_options import described
from harvestd.remote.ssh.key_files import read_certificates, read_key_file
from harvestd.remote.ssh.target import Target
from harvestd.settings import Problem, Settings

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
