"""The files of an installation: the packaged unit, its drop-in, and how each is written or removed.

Files with a first line that identifies their writer and holds the hash of the rest. So a file that a person edited,
or wrote, is distinguished from harvestd's, whichever version wrote it.
"""

import hashlib
import os
import pwd
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Final

from harvestd.errors import Fatal
from harvestd.settings.schema import Settings
from harvestd.settings.sections import Jobs

_MARK: Final = "# Written by `harvestd install`, which leaves it alone once it is edited: "
_DIGITS: Final = 16
_READABLE: Final = 0o644


class Standing(StrEnum):
    """The state of a path."""

    ABSENT = "absent"
    OURS = "ours"
    """Unchanged since harvestd wrote it."""
    EDITED = "edited"
    """Edited since, or never harvestd's."""


def stamped(text: str) -> str:
    """Return a file's text after the line that identifies it."""
    return f"{_MARK}{_hash_of(text)}\n{text}"


def standing(path: Path) -> Standing:
    """Return the state of `path`; raise OSError where it can't be read."""
    try:
        head, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    except FileNotFoundError:
        return Standing.ABSENT
    return Standing.OURS if head == _MARK + _hash_of(text) else Standing.EDITED


def holds(path: Path, text: str) -> bool:
    """Return whether the file `path` has exactly this content."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def put(path: Path, text: str) -> None:
    """Write a file that all may read, atomically; create missing directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(_READABLE)
    half.replace(path)


def take_away(path: Path) -> None:
    """Remove a file, and its directory of drop-ins if that is empty then."""
    path.unlink()
    if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGITS]


def packaged(kind: str, name: str) -> str:
    """Return the text of the file `name` of a kind, "systemd" or "config".

    Raise FileNotFoundError for an unknown one.
    """
    package = files("harvestd")
    inside = package / "data" / kind / name
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # An editable installation: the package is in its source tree.
    return (Path(str(package)).parents[1] / kind / name).read_text(encoding="utf-8")


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


def drop_in_text(site: Site, executable: Path, written_to: tuple[Path, ...]) -> str:
    """Return the drop-in's text; `written_to`: the paths beyond the unit's own that the daemon writes to."""
    return "\n".join((*_mounts(written_to), "[Service]", *_lines(site, executable, written_to))) + "\n"


def _mounts(written_to: tuple[Path, ...]) -> Iterator[str]:
    """Yield the lines that have these paths mounted first: the daemon refuses a data root that is not mounted."""
    if written_to:
        yield "[Unit]"
        for path in written_to:
            yield f"RequiresMountsFor={_quoted(path)}"
        yield ""


def _lines(site: Site, executable: Path, written_to: tuple[Path, ...]) -> Iterator[str]:
    yield "ExecStart="
    yield f"ExecStart={_quoted(executable).replace('$', '$$')} run --config {_quoted(site.config).replace('$', '$$')}"
    if not site.account:
        return
    yield f"User={site.account}"
    if site.in_a_home:
        yield "# Keys and ~/.ssh/config are read there; nothing is written but below."
        yield "ProtectHome=read-only"
    for path in written_to:
        # A missing path must not prevent the start: the daemon has a better error for it.
        yield f"ReadWritePaths={_quoted(path, before='-')}"


def drop_in_places(config: str, where: Path, home: Path) -> tuple[Path, ...]:
    """Return the paths that the daemon writes to by its configuration's text: data root, state and job files.

    `where` is the file's path, `home` replaces `~`. A path inside another one is left out, and so is a path that the
    unit opens anyway. Raise `Fatal` for a text that is no TOML.
    """
    try:
        table = tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise Fatal(f"{where}: {error}", hint="mend it first; `harvestd check` names each problem") from None
    jobs = table.get("jobs", {})
    named = [
        table.get("data_root", Settings.model_fields["data_root"].default),
        table.get("state_dir"),
        jobs.get("directory", Jobs.model_fields["directory"].default) if isinstance(jobs, dict) else None,
    ]
    found = tuple(dict.fromkeys(_expanded(str(each), where, home) for each in named if each))
    inside = (STATE, *found)
    return tuple(path for path in found if not any(path != each and path.is_relative_to(each) for each in inside))


def _expanded(text: str, where: Path, home: Path) -> Path:
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    try:
        return where.parent / Path(text).expanduser()
    except RuntimeError:
        return where.parent / text  # no such account: the daemon reports it


def _quoted(path: Path, before: str = "") -> str:
    r"""Return a path as a word of a unit: systemd interprets `%`, `\` and `"` in it."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{before}{text}"' if set(text) & set(" \\\"'\t;") else before + text
