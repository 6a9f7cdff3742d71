"""The paths of an installation, for the machine's daemon or for one user's."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harvestd.errors import Fatal

OWN_ACCOUNT: Final = "harvestd"
"""The account that is created where the daemon runs for no particular user."""
STATE: Final = Path("/var/lib/harvestd")
"""That account's home directory: the unit's StateDirectory, which the daemon can access anyway."""
ETC: Final = Path("/etc")
_HOMES: Final = tuple(map(Path, ("/home", "/root", "/run/user")))
"""The directories that ProtectHome= hides."""
_UNIT: Final = "harvestd.service"
_DROP_IN: Final = Path(f"{_UNIT}.d/10-install.conf")


@dataclass(frozen=True)
class Site:
    """One installation's paths."""

    source: str
    """The name of its unit among the shipped files."""
    unit: Path
    drop_in: Path
    config: Path
    home: Path
    """The home directory of the daemon's account, which replaces `~` in the configuration."""
    systemctl: tuple[str, ...]
    account: str = ""
    """The account of the daemon; empty: the user of the service manager."""
    accounts: Path | None = None
    """The file that defines the created account; None: a user's daemon needs none."""

    @property
    def is_own_account(self) -> bool:
        """Whether the daemon runs as the account that was created for it."""
        return self.account == OWN_ACCOUNT

    @property
    def in_a_home(self) -> bool:
        """Whether the account is a person's, with keys and data in a home directory."""
        return any(self.home.is_relative_to(each) for each in _HOMES)

    def is_closed(self, path: Path) -> bool:
        """Return whether the system's unit can't read `path`: it is in another home directory than the account's."""
        hidden = any(path.is_relative_to(each) for each in _HOMES)
        return bool(self.account) and hidden and not (self.in_a_home and path.is_relative_to(self.home))


def account_in(etc: Path = ETC) -> str:
    """Return the account of the machine's daemon by its drop-in; empty where none is set."""
    path = etc / "systemd/system" / _DROP_IN
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.removeprefix("User=") for line in lines if line.startswith("User=")), "")


def of_system(run_as: str, etc: Path = ETC) -> Site:
    """Return the paths of the machine's own daemon; raise `Fatal` for an account that does not exist."""
    own = run_as == OWN_ACCOUNT
    try:
        home = Path(pwd.getpwnam(run_as).pw_dir)
    except KeyError:
        if not own:
            raise Fatal(f"there is no account {run_as}", hint="see --run-as in `harvestd install --help`") from None
        home = STATE
    return Site(
        source=_UNIT,
        unit=etc / "systemd/system" / _UNIT,
        drop_in=etc / "systemd/system" / _DROP_IN,
        config=etc / "harvestd/harvestd.toml",
        home=home,
        systemctl=("systemctl",),
        account=run_as,
        accounts=etc / "sysusers.d/harvestd.conf",
    )


def of_user(env: Mapping[str, str]) -> Site:
    """Return the paths of the caller's own daemon."""
    home = Path(env.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
    # The base directory specification requires relative paths to be ignored.
    named = env.get("XDG_CONFIG_HOME", "")
    base = Path(named) if named.startswith("/") else home / ".config"
    return Site(
        source="harvestd-user.service",
        unit=base / "systemd/user" / _UNIT,
        drop_in=base / "systemd/user" / _DROP_IN,
        config=base / "harvestd/harvestd.toml",
        home=home,
        systemctl=("systemctl", "--user"),
    )
