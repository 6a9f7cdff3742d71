"""Check the account of this process, and find the key of the cloud's API.

Check that this process runs as the account of its configuration; otherwise name the right command. The machine's
daemon runs as an account of its own: `~` in its configuration is that account's home directory, and only that account
can read its files. Another account with the same file would use another data root, or create one. So it gets an error
with the right command.

Find the key of the cloud's API: the possible places, in their order. It is returned as a `SecretStr` only. It is read
each time that it is needed, so that a changed key is used without a restart. The content of a file is never quoted,
not even where it can't be a key.
"""

import os
import pwd
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from harvestd.convention.paths import RESERVED
from harvestd.errors import Fatal, Retry
from harvestd.settings.schema import Settings
from harvestd.settings.sections import LambdaCloud

ETC: Final = Path("/etc")
_UNIT: Final = "systemd/system/harvestd.service"
_CONFIG: Final = "harvestd/harvestd.toml"
_PROGRAM: Final = "harvestd"
_SUDO: Final = "/usr/bin/sudo"


class WrongAccount(Fatal):
    """The command was called by an account without the necessary access.

    The hint names the right account and command.
    """


def service_account(etc: Path = ETC) -> pwd.struct_passwd | None:
    """Return the account of the machine's daemon, by its unit and drop-ins below `etc`; None: none is set.

    As in systemd, the drop-ins are read in the order of their names, and the last `User=` counts.
    """
    unit = etc / _UNIT
    named = ""
    for path in (unit, *sorted(unit.with_name(f"{unit.name}.d").glob("*.conf"))):
        for line in _lines(path):
            if line.startswith("User="):
                named = line.removeprefix("User=").strip()
    try:
        return (pwd.getpwuid(int(named)) if named.isdecimal() else pwd.getpwnam(named)) if named else None
    except KeyError:
        return None


def require_account(config: Path, etc: Path = ETC) -> None:
    """Raise `WrongAccount` where `config` is the machine's daemon's, and this process runs as another account.

    For the daemon's own account, set HOME to that account's home directory, as systemd does for the daemon.
    """
    if not _is_same(config, etc / _CONFIG):
        return
    account = service_account(etc)
    if account is None:
        return
    if account.pw_uid == os.geteuid():
        os.environ["HOME"] = account.pw_dir
        return
    raise WrongAccount(
        f"{config} is for the daemon of this machine, which runs as {account.pw_name}",
        hint=f"ask as that account: {_command_as(account.pw_name)}",
    )


def require_access(settings: Settings) -> None:
    """Raise `WrongAccount` where data root or catalogue exist, and this process may not use them."""
    for place in (settings.data_root / RESERVED, settings.state):
        closed = _closed(place)
        if closed is None:
            continue
        owner = _name_of(closed.stat().st_uid)
        mine = _name_of(os.geteuid())
        hint = f"it belongs to {owner}; ask as that account: {_command_as(owner)}"
        if owner == mine:
            hint = f"it belongs to {owner}, as this command does; `ls -ld {shlex.quote(str(closed))}` shows its modes"
        raise WrongAccount(f"{closed} is closed to {mine}", hint=hint)


def _closed(place: Path) -> Path | None:
    """Return the first directory on the way to `place`, or `place` itself, that this process may not access."""
    owner = os.geteuid()
    for path in (*reversed(place.parents), place):
        try:
            found = path.stat()
        except OSError:
            # Missing: the code that opens it reports that.
            return None
        if not stat.S_ISDIR(found.st_mode):
            return None
        owner = found.st_uid
        if not os.access(path, os.X_OK, effective_ids=True):
            return path
    may_write = os.access(place, os.R_OK | os.W_OK, effective_ids=True)
    # A place of this account that can't be written is on a read-only file system.
    return None if may_write or owner == os.geteuid() else place


def _command_as(account: str) -> str:
    """Return the command line that runs this command as `account`."""
    program = Path(sys.argv[0]).absolute()
    called = [str(program)] if program.name == _PROGRAM else [_PROGRAM]
    become = ["sudo", "-u", account] if os.access(_SUDO, os.X_OK) else ["runuser", "-u", account, "--"]
    return shlex.join([*become, *called, *sys.argv[1:]])


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


VARIABLES = ("LAMBDA_API_KEY", "LAMBDA_CLOUD_API_TOKEN")
USUAL_FILE = Path("~/.lambda_cloud/lambda_keys")
"""Written by the cloud's own tools, as `api_key = …`."""
CREDENTIAL = "lambda-api-key"
"""The name of a systemd credential."""

_MOST_BYTES = 4_096
_KEY = re.compile(r"[\x21-\x7e]{8,512}")
_NAMED = re.compile(r"^\s*api_key\s*=\s*[\"']?(?P<key>[^\"'\s]+)", re.MULTILINE)


class NoKey(Retry):
    """No key is available now; one may be added later."""


def api_key(cloud: LambdaCloud, env: Mapping[str, str] | None = None) -> SecretStr:
    """Return the key from the first place that has one; raise `NoKey`, which names the invalid place.

    `env` replaces the process's environment if given. Reads small files: do not call it on an event loop.
    """
    env = os.environ if env is None else env
    for place, text in _places(cloud, env):
        named = _NAMED.search(text)
        key = named["key"] if named else text.strip()
        if not _KEY.fullmatch(key):
            raise NoKey(f"what stands in {place} is no API key", hint="it is one word, or a line `api_key = …`")
        return SecretStr(key)
    raise NoKey(
        "no API key for the cloud was found",
        hint=f"set lambda_cloud.api_key_file, {VARIABLES[0]}, or a systemd credential {CREDENTIAL}",
    )


def _places(cloud: LambdaCloud, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each existing place, and its text."""
    if cloud.api_key is not None:
        yield "lambda_cloud.api_key", cloud.api_key.get_secret_value()
    if cloud.api_key_file is not None:
        yield from _file(cloud.api_key_file, is_asked_for=True)
    for name in VARIABLES:
        if env.get(name):
            yield f"${name}", env[name]
    if "HOME" in env:
        yield from _file(Path(env["HOME"], *USUAL_FILE.parts[1:]), is_asked_for=False)
    if env.get("CREDENTIALS_DIRECTORY"):
        yield from _file(Path(env["CREDENTIALS_DIRECTORY"], CREDENTIAL), is_asked_for=False)


def _file(path: Path, *, is_asked_for: bool) -> Iterator[tuple[str, str]]:
    """Yield a file's place and text; a missing one is an error only if it was configured."""
    try:
        with path.open("rb") as file:
            yield str(path), file.read(_MOST_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        if is_asked_for:
            raise NoKey(
                f"the file of the API key, {path}, does not exist", hint="check lambda_cloud.api_key_file"
            ) from None
    except OSError as e:
        raise NoKey(f"the file of the API key, {path}, can't be read: {e.strerror}") from None
