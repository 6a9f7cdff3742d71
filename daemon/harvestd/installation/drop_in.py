"""The drop-in beside the unit, with this machine's account, program and writable paths."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from harvestd.errors import Fatal
from harvestd.installation.site import STATE, Site
from harvestd.settings.schema import Settings
from harvestd.settings.sections import Jobs


def text_of(site: Site, executable: Path, written_to: tuple[Path, ...]) -> str:
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


def places(config: str, where: Path, home: Path) -> tuple[Path, ...]:
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
