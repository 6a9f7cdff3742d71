"""The steps of an installation or removal: each has a text, and is carried out on demand.

Only showing the steps changes nothing: creating a step just reads the present files.
"""

import pwd
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harvestd.errors import ExitCode, Fatal
from harvestd.installation import files
from harvestd.installation.files import Site, Standing, holds, packaged, put, stamped, standing, take_away

Run = Callable[[Sequence[str], str], None]
"""Runs a program as the account of that name (empty: as the caller); raises `Fatal` where it fails."""

_PATIENCE: Final = 60.0
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
            timeout=_PATIENCE,
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
    places = files.drop_in_places(config, site.config, site.home) if site.account else ()
    for place in places:
        # Created by its owner: root must not follow that account's links. All of them: the unit opens only paths that
        # exist when it starts, and a launcher may create its directory later.
        make = partial(call, ("mkdir", "-p", "--", str(place)), site.account)
        yield Step(f"as it was: {place}") if place.is_dir() else Step(f"made, for {site.account}: {place}", make)
    yield _written(site.unit, packaged("systemd", site.source))
    yield _written(site.drop_in, files.drop_in_text(site, executable, places))


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
