"""Warnings about valid settings that are probably mistakes. Reads this machine's files; changes nothing."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from harvestd.settings.credentials import NoKey, api_key
from harvestd.settings.problems import Problem
from harvestd.settings.schema import Settings
from harvestd.settings.sections import DEFAULT_IDENTITY_FILE, Ssh

AGENT_VARIABLE = "SSH_AUTH_SOCK"


def warnings_for(settings: Settings, *, env: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """Return warnings about valid settings; none of them stops the daemon.

    Their `where` is the affected place on this machine, if there is one. `env` replaces the process's environment if
    given.
    """
    agent = bool((os.environ if env is None else env).get(AGENT_VARIABLE))
    found = list(_about_ssh(settings.ssh, "ssh", set(Ssh.model_fields), agent=agent))
    for host in settings.hosts:
        own = host.model_fields_set & set(Ssh.model_fields)
        found += _about_ssh(settings.ssh_for(host), f"hosts[{host.name}]", own, agent=agent)
    found += _about_cloud(settings, os.environ if env is None else env)
    found += _about_release(settings)
    return tuple(found)


def _about_cloud(settings: Settings, env: Mapping[str, str]) -> Iterator[Problem]:
    if settings.lambda_cloud.enabled:
        try:
            api_key(settings.lambda_cloud, env)
        except NoKey as e:
            yield Problem("", "lambda_cloud.enabled", f"is set, but {e}", e.hint)


def _about_release(settings: Settings) -> Iterator[Problem]:
    """Yield what keeps the daemon from releasing any host although it is configured to."""
    release = settings.release
    if release.terminate == "never":
        return
    if not settings.lambda_cloud.enabled:
        message = f"is {release.terminate!r}, but only boxes of the cloud are released, and it is not asked for any"
        yield Problem("", "release.terminate", message, 'set lambda_cloud.enabled, or terminate = "never"')
    elif not release.only:
        message = f"is empty, so that terminate = {release.terminate!r} releases nothing"
        yield Problem("", "release.only", message, "name the hosts that the daemon may terminate")


def _about_ssh(ssh: Ssh, table: str, keys: set[str], *, agent: bool) -> Iterator[Problem]:
    """Check the given keys of one table."""
    if ssh.identity_files is None and "identity_files" in keys and not ssh.config_files:
        path = Path(DEFAULT_IDENTITY_FILE).expanduser()
        if not path.is_file() and not (ssh.agent and (agent or ssh.agent_socket)):
            message = f"names no key, {DEFAULT_IDENTITY_FILE} does not exist, and no agent runs"
            yield Problem("", f"{table}.identity_files", message, "name a private key")
    if "identity_files" in keys:
        help_of_agent = ssh.agent and (agent or ssh.agent_socket is not None)
        for index, path in enumerate(ssh.identity_files or ()):
            if not path.is_file():
                hint = "" if help_of_agent else "no agent runs either: only the other keys can be offered"
                yield Problem(str(path), f"{table}.identity_files[{index}]", "does not exist or can't be read", hint)
    if "config_files" in keys:
        for index, path in enumerate(ssh.config_files):
            if not path.is_file():
                yield Problem(str(path), f"{table}.config_files[{index}]", "does not exist or can't be read")
    known_hosts = ssh.known_hosts or (None if ssh.config_files else Path("~/.ssh/known_hosts").expanduser())
    is_asked = keys & {"known_hosts", "host_keys"} and ssh.host_keys == "known_hosts"
    if is_asked and known_hosts is not None and not known_hosts.is_file():
        message = "does not exist or can't be read, so that no host would be trusted"
        yield Problem(str(known_hosts), f"{table}.known_hosts", message)
