"""Check that this process runs as the account of its configuration; otherwise name the right command.

The machine's daemon runs as an account of its own: `~` in its configuration is that account's home directory, and only
that account can read its files. Another account with the same file would use another data root, or create one. So it
gets an error with the right command.
"""

import os
import pwd
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harvestd.convention.paths import RESERVED
from harvestd.errors import Fatal
from harvestd.settings.schema import Settings

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
