"""Install and remove the unit, its drop-in and a first configuration: their content, and the steps on demand.

A file's first line identifies its writer and holds the hash of the rest. So a file that a person edited, or wrote, is
distinguished from harvestd's, whichever version wrote it.

Only showing the steps changes nothing: creating a step just reads the present files.
"""

import hashlib
import os
import pwd
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

from harvestd.errors import ExitCode, Fatal
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


Run = Callable[[Sequence[str], str], None]
"""Runs a program as the account of that name (empty: as the caller); raises `Fatal` where it fails."""

_TIMEOUT: Final = 60.0
"""Seconds for a program to finish."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Step:
    """One action, or the finding that none is necessary."""

    line: str
    """The text for the user."""
    do: Callable[[], None] = _nothing
    is_change: bool = False
    """Whether it changes the daemon's unit."""


def run(command: Sequence[str], account: str = "") -> None:
    """Run a program to its end, as `account` if given, without inheriting this process's input and groups."""
    try:
        # S603: the commands are systemd's own and `mkdir`, each word passed separately.
        done = subprocess.run(  # noqa: S603
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            user=account or None,
            group=pwd.getpwnam(account).pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(command, str(error)) from error
    if done.returncode:
        raise _failed(command, (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}")


def installing(site: Site, executable: Path, call: Run = run) -> Iterator[Step]:
    """Yield the steps after which the unit can be started, in their order.

    Each is created on demand, after the earlier ones were carried out. Raise `Fatal` for an existing configuration that
    can't be parsed.
    """
    if site.accounts is not None and site.is_own_account:
        yield _written(site.accounts, packaged("systemd", "sysusers.d/harvestd.conf"), is_change=False)
        yield _called(call, ("systemd-sysusers", str(site.accounts)))
    first = first_configuration(site.home if site.account else None)
    if site.config.exists():
        yield Step(f"left as it is: {site.config}")
        config = site.config.read_text(encoding="utf-8", errors="replace")
    else:
        yield Step(f"written: {site.config}", partial(put, site.config, first))
        config = first
    places = drop_in_places(config, site.config, site.home) if site.account else ()
    for place in places:
        # Created by its owner: root must not follow that account's links. All of them: the unit opens only paths that
        # exist when it starts, and a launcher may create its directory later.
        make = partial(call, ("mkdir", "-p", "--", str(place)), site.account)
        yield Step(f"as it was: {place}") if place.is_dir() else Step(f"made, for {site.account}: {place}", make)
    yield _written(site.unit, packaged("systemd", site.source))
    yield _written(site.drop_in, drop_in_text(site, executable, places))


def first_configuration(home: Path | None) -> str:
    """Return the configuration for a machine without one.

    `home`: the daemon's, where other accounts read the file, too.

    Its data root is then absolute: `~` would differ for each reader.
    """
    text = packaged("config", "harvestd.example.toml")
    return text if home is None else text.replace('data_root = "~/', f'data_root = "{home}/', 1)


def uninstalling(site: Site) -> Iterator[Step]:
    """Yield the steps that remove the files of `installing`, once the unit is stopped; edited files stay."""
    for path in (site.drop_in, site.unit, *([site.accounts] if site.accounts else [])):
        match standing(path):
            case Standing.ABSENT:
                yield Step(f"not there: {path}")
            case Standing.EDITED:
                yield Step(f"left, edited by hand: {path}")
            case Standing.OURS:
                yield Step(f"removed: {path}", partial(take_away, path), is_change=True)


def managing(site: Site, verbs: Sequence[str], call: Run = run) -> Step:
    """Return the step that runs a command of the service manager."""
    return _called(call, (*site.systemctl, *verbs))


def _called(call: Run, command: Sequence[str]) -> Step:
    return Step(f"called: {' '.join(command)}", partial(call, command, ""))


def _written(path: Path, text: str, *, is_change: bool = True) -> Step:
    whole = stamped(text)
    if holds(path, whole):
        return Step(f"as it was: {path}")
    if standing(path) is Standing.EDITED:
        return Step(f"left, edited by hand: {path} (move it away to have it written anew)")
    return Step(f"written: {path}", partial(put, path, whole), is_change=is_change)


def _failed(command: Sequence[str], why: str) -> Fatal:
    hint = "what was said before is done; mend this, then do the same again"
    return Fatal(f"`{' '.join(command)}` failed: {why}", hint=hint, exit_code=ExitCode.PARTIAL)
