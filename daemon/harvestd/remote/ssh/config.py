"""Resolve the OpenSSH configuration of a host with OpenSSH itself (`ssh -G`).

Only files that the operator named are read, never ~/.ssh/config by default. Values from harvestd's own configuration
take precedence over the files and are passed as ssh's options. harvestd's defaults yield to the files and are passed as
the last lines of the file. So tokens, `Match` and `Include` have their ssh meaning.

An answer is cached while the files that ssh read are unchanged, for at most a minute: a new file may match an
`Include`, and a `Match` may depend on the network. An answer for which ssh ran a command (`Match exec`) is never
cached.

Which options of ssh_config harvestd honours, and which it may ignore without a warning. `harvestd check` names every
option that is in neither set and differs from ssh's own default.
"""

import getpass
import hashlib
import os
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined
from harvestd.remote.ssh.errors import quoted, raise_if_short
from harvestd.remote.ssh.run_ssh import STANDARD_INPUT, SshResult, in_thread, run_ssh
from harvestd.remote.ssh.target import Target

HONOURED = frozenset({
    "host", "hostname", "port", "user", "identityfile", "identitiesonly", "identityagent", "certificatefile",
    "proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "addressfamily",
    "bindaddress", "kexalgorithms", "macs", "hostkeyalgorithms",
    # These control how the others are read, and ssh -G has applied them.
    "canonicaldomains", "canonicalizehostname", "canonicalizefallbacklocal", "canonicalizemaxdots",
    "canonicalizepermittedcnames", "ignoreunknown", "tag",
})  # fmt: skip
OF_NO_CONSEQUENCE = frozenset({
    # harvestd already behaves as the option asks, or the feature that it controls is not used here.
    "addkeystoagent", "batchmode", "checkhostip", "enableescapecommandline", "escapechar", "fingerprinthash",
    "hashknownhosts", "loglevel", "logverbose", "numberofpasswordprompts", "stdinnull", "syslogfacility",
    "updatehostkeys", "visualhostkey", "xauthlocation", "forwardx11timeout", "forwardx11trusted",
})  # fmt: skip
REPLACED = {
    "connecttimeout": "ssh.connect_timeout holds",
    "controlmaster": "harvestd shares its own connections",
    "controlpath": "harvestd shares its own connections",
    "controlpersist": "harvestd shares its own connections",
    "serveralivecountmax": "ssh.keepalive holds",
    "serveraliveinterval": "ssh.keepalive holds",
    "stricthostkeychecking": "ssh.host_keys holds",
}
"""What applies instead of an ignored option."""


def described(options: Iterable[str]) -> str:
    """Return ignored options as text, each with what applies instead."""
    return ", ".join(f"{name} ({REPLACED[name]})" if name in REPLACED else name for name in options)


AGENT_VARIABLE = "SSH_AUTH_SOCK"
_KEEP = 60.0
"""Seconds for which an answer is cached at most."""
_MOST_KEPT = 4096
_TICK = 0.05
"""Seconds: more than one clock tick of any file system that may hold a configuration."""
_UNWRITTEN = "/harvestd/no-identity-file-was-written"
"""Appended after the files, to detect whether they name an IdentityFile.

ssh -G prints its default files in the same form.
"""
_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
_UNSAFE = frozenset("'`\"$\\;&<>|(){}")
"""Characters that OpenSSH refuses in names that go into a command line, as it does spaces and control characters."""


class ResolvedConfig(Immutable):
    """Where and how to connect: the operator's settings, the files and the defaults merged."""

    hostname: str
    port: int
    user: str
    """Empty: the local account's name."""
    identity_files: tuple[Path, ...] | None = None
    """None: not set; the target's default files and ssh's own default names are used, as far as they exist."""
    identities_only: bool = False
    agent_socket: str | None = None
    """None: SSH_AUTH_SOCK decides; empty: no agent."""
    certificate_files: tuple[Path, ...] = ()
    jump: str = ""
    """`[user@]host[:port]`, several separated by commas."""
    proxy_command: str = ""
    """With its tokens replaced, for a shell."""
    host_key_alias: str = ""
    known_hosts: tuple[Path, ...] = ()
    family: int = socket.AF_UNSPEC
    bind_address: str = ""
    key_exchanges: tuple[str, ...] = ()
    """Empty: not set; the same holds for the next two."""
    macs: tuple[str, ...] = ()
    host_key_algorithms: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Options that the files set and harvestd does not honour, as ssh spells them."""


async def resolve(target: Target) -> ResolvedConfig:
    """Return where and how to connect to `target`; the caller sets a deadline.

    Raise `HostQuarantined` where the configuration files can't be used or there is no ssh to read them, `Short` where
    this machine has no descriptor left.
    """
    if not target.config_files:
        return _plain(target)
    kept = _kept.get(target)
    is_fresh = kept is not None and kept.until > time.monotonic()
    if kept is not None and is_fresh and await in_thread(_signature, kept.files) == kept.signature:
        return kept.config
    began = time.time()
    text = await in_thread(_joined, target)
    answer = await _ask(target, text)
    config = _resolved(target, _options(answer.output), await _defaults())
    if not answer.ran_commands:
        await _keep(target, config, answer.files, began)
    return config


_Signature = tuple[tuple[int, int, int] | None, ...]


class _Kept(Immutable):
    config: ResolvedConfig
    files: tuple[Path, ...]
    signature: _Signature
    until: float


_kept: dict[Target, _Kept] = {}


async def _keep(target: Target, config: ResolvedConfig, read: Sequence[Path], began: float) -> None:
    """Cache the answer to a query that began at `began` (seconds since the epoch)."""
    # A file that appears in a directory of included files may match as well: directories are in the signature, too.
    files = (*target.config_files, *dict.fromkeys(each for path in read for each in (path, path.parent)))
    signature = await in_thread(_signature, files)
    if any(changed >= (began - _TICK) * 1e9 for _, _, changed in filter(None, signature)):
        # The file may have changed after ssh read it, or within the same clock tick.
        return
    while len(_kept) >= _MOST_KEPT:
        _kept.pop(next(iter(_kept)))
    _kept[target] = _Kept(config, files, signature, time.monotonic() + _KEEP)


def _signature(files: Iterable[Path]) -> _Signature:
    """Return inode, size and modification time of each of these files, None for a missing one."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _plain(target: Target) -> ResolvedConfig:
    """Return the resolution of a target without configuration files."""
    return ResolvedConfig(
        hostname=target.address,
        port=target.port or 22,
        user=target.user or target.default_user,
        identity_files=target.identity_files or target.default_identity_files or None,
        identities_only=bool(target.identities_only),
        agent_socket=target.agent_socket or None,
        jump="" if target.proxy_jump == "none" else target.proxy_jump,
        known_hosts=(target.known_hosts or Path.home() / ".ssh" / "known_hosts",),
    )


class _Text(Immutable):
    """The configuration files joined into one text, and the line at which each of them begins."""

    content: str
    starts: tuple[tuple[int, Path], ...]
    """The number of the line before each file's first line."""

    def located(self, message: str) -> str:
        """Return ssh's message with the operator's file and line in place of the joined file's."""

        def place(match: re.Match[str]) -> str:
            line = int(match["line"])
            start, path = max(each for each in self.starts if each[0] < line)
            return f"{path} line {line - start}"

        pattern = re.escape(STANDARD_INPUT) + r":? line (?P<line>\d+)"
        return re.sub(pattern, place, message).replace(STANDARD_INPUT, str(self.starts[0][1]))


def _joined(target: Target) -> _Text:
    """Return the configuration files joined into one, followed by harvestd's defaults.

    Raise `HostQuarantined` for a file that can't be read, `Short` where no descriptor is left. `Include` is not used:
    ssh checks owner and mode of an included file, but not those of a file given with -F.
    """
    lines: list[str] = []
    starts = []
    for path in target.config_files:
        starts.append((len(lines), path))
        try:
            lines += path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as e:
            raise_if_short(target, e)
            raise HostQuarantined(
                f"{target}: the SSH configuration {path} can't be read ({e.strerror})", hint="check ssh.config_files"
            ) from e
        lines.append("Match all")
    if target.default_user:
        lines.append(f"User {target.default_user}")
    lines.append(f"IdentityFile {_UNWRITTEN}")
    return _Text("\n".join(lines) + "\n", tuple(starts))


async def _ask(target: Target, text: _Text) -> SshResult:
    command = ["ssh", "-G", "-v", "-F", STANDARD_INPUT, *_above(target), "--", target.address]
    try:
        answer = await run_ssh(command, text.content.encode("utf-8", "surrogateescape"))
    except FileNotFoundError as e:
        raise HostQuarantined(
            f"{target}: ssh.config_files is set, and there is no ssh program here to read them",
            hint="install OpenSSH's client (openssh-client), or write user, port and keys into harvestd.toml",
        ) from e
    except OSError as e:
        raise_if_short(target, e)
        raise
    if answer.status == 0:
        return answer
    said = quoted(text.located(answer.error.replace("\r", "")).replace("\n", "; "))
    raise HostQuarantined(
        f"{target}: the SSH configuration can't be used ({said})",
        hint=f"check ssh.config_files: ssh -G {target.address}",
    )


def _above(target: Target) -> list[str]:
    """Return ssh's options for the values that take precedence over the files."""
    options = []
    if target.user:
        options += ["-o", f"User={target.user}"]
    if target.port:
        options += ["-o", f"Port={target.port}"]
    if target.proxy_jump:
        options += ["-o", f"ProxyJump={target.proxy_jump}"]
    return options


_default_options: dict[str, tuple[str, ...]] = {}


async def _defaults() -> Mapping[str, Sequence[str]]:
    """Return the output of ssh -G without any configuration file."""
    if not _default_options:
        answer = await run_ssh(["ssh", "-G", "-F", "none", "--", "localhost"])
        _default_options.update(_options(answer.output))
    return _default_options


def _options(output: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in output.splitlines():
        name, _, value = line.partition(" ")
        found[name.casefold()] = (*found.get(name.casefold(), ()), value)
    return found


def _resolved(
    target: Target, options: Mapping[str, Sequence[str]], defaults: Mapping[str, Sequence[str]]
) -> ResolvedConfig:
    def one(name: str) -> str:
        value = options.get(name, ("",))[0]
        return "" if value == "none" else value

    def written(name: str) -> str:
        return "" if options.get(name) == defaults.get(name) else one(name)

    def names(name: str) -> tuple[str, ...]:
        return tuple(each for each in written(name).split(",") if each)

    tokens = _tokens(target, one)
    jump = one("proxyjump")
    identity_files = _identity_files(target, options.get("identityfile", ()), tokens)
    return ResolvedConfig(
        hostname=one("hostname") or target.address,
        port=int(one("port") or 22),
        user=one("user"),
        identity_files=identity_files,
        identities_only=one("identitiesonly") == "yes" if target.identities_only is None else target.identities_only,
        agent_socket=target.agent_socket or _agent_socket(options.get("identityagent", ("",))[0], tokens),
        certificate_files=tuple(_expanded(each, tokens) for each in options.get("certificatefile", ())),
        jump=jump,
        proxy_command="" if jump else _command(target, one("proxycommand"), tokens),
        host_key_alias=one("hostkeyalias"),
        known_hosts=(target.known_hosts,) if target.known_hosts else _known_hosts(options),
        family=_FAMILIES.get(one("addressfamily"), socket.AF_UNSPEC),
        bind_address=one("bindaddress"),
        key_exchanges=names("kexalgorithms"),
        macs=names("macs"),
        host_key_algorithms=names("hostkeyalgorithms"),
        ignored=tuple(
            name
            for name in options
            if options[name] != defaults.get(name) and name not in HONOURED and name not in OF_NO_CONSEQUENCE
        ),
    )


def _identity_files(target: Target, found: Sequence[str], tokens: Mapping[str, str]) -> tuple[Path, ...] | None:
    if target.identity_files:
        return target.identity_files
    if found and found[0] != _UNWRITTEN:
        return tuple(_expanded(each, tokens) for each in found if each not in {_UNWRITTEN, "none"})
    return None


def _agent_socket(value: str, tokens: Mapping[str, str]) -> str | None:
    if value in {"", AGENT_VARIABLE}:
        return None
    if value == "none":
        return ""
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return str(_expanded(value, tokens))


def _known_hosts(options: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """Return the host-key files; ssh separates them by spaces, which their names may contain as well."""
    files: list[str] = []
    for name in ("userknownhostsfile", "globalknownhostsfile"):
        for value in options.get(name, ()):
            for word in value.split(" "):
                if files and not word.startswith(("/", "~")):
                    files[-1] += f" {word}"
                else:
                    files.append(word)
    return tuple(Path(os.path.expanduser(each)) for each in files if each != "none")  # noqa: PTH111  (text, not paths)


def _tokens(target: Target, one: Callable[[str], str]) -> dict[str, str]:
    """Return the values of ssh's tokens (ssh_config(5), TOKENS)."""
    account = pwd.getpwuid(os.getuid())
    local = socket.gethostname()
    host, port, user, jump = one("hostname"), one("port"), one("user"), one("proxyjump")
    digest = hashlib.sha1(f"{local}{host}{port}{user}{jump}".encode(), usedforsecurity=False).hexdigest()
    return {
        "%": "%",
        "C": digest,
        "d": account.pw_dir,
        "h": host,
        "i": str(account.pw_uid),
        "j": jump,
        "k": one("hostkeyalias") or target.address,
        "L": local.partition(".")[0],
        "l": local,
        "n": target.address,
        "p": port,
        "r": user or getpass.getuser(),
        "u": account.pw_name,
    }


def _with_tokens(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _expanded(text: str, tokens: Mapping[str, str]) -> Path:
    """Return a path as ssh expands it: ~ is the account's home directory, not $HOME."""
    if text == "~" or text.startswith("~/"):
        text = tokens["d"] + text[1:]
    elif text.startswith("~"):
        text = os.path.expanduser(text)  # noqa: PTH111  (text, not a path)
    text = _with_tokens(text, tokens)
    return Path(re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text))


def _command(target: Target, command: str, tokens: Mapping[str, str]) -> str:
    """Return a ProxyCommand for the shell; raise `HostQuarantined` for a name that a shell would interpret."""
    used = {match[1] for match in re.finditer(r"%(.)", command)} & {"h", "n", "r", "k", "j"}
    for name in sorted(used):
        value = tokens[name]
        if any(each in _UNSAFE or each.isspace() or not each.isprintable() for each in value) or value.startswith("-"):
            raise HostQuarantined(
                f"{target}: {quoted(value)} does not go into a ProxyCommand: a shell would interpret it",
                hint="give the host a plain address",
            )
    return _with_tokens(command, tokens)
