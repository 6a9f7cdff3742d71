"""The drop-in beside the unit: what only this machine knows. Who, which program, and where it may write."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from harvestd.errors import Fatal
from harvestd.installation.site import STATE, Site
from harvestd.settings.models import Settings
from harvestd.settings.sections import Jobs


def text_of(site: Site, executable: Path, written_to: tuple[Path, ...]) -> str:
    """Give the drop-in's text; `written_to` are the places outside the unit's own that the daemon writes to."""
    return "\n".join(("[Service]", *_lines(site, executable, written_to))) + "\n"


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
        # A place that is missing is no reason not to start: the daemon says it better.
        yield f"ReadWritePaths={_quoted(path, before='-')}"


def places(config: str, where: Path, home: Path) -> tuple[Path, ...]:
    """Give what the daemon writes to by its configuration's text: data root, state and job files, each once.

    `where` is the file's place, `home` what `~` stands for. What lies in another of them is left out, and so is what
    the unit opens anyway. Raises `Fatal` for a text that is no TOML.
    """
    table = _table_of(config, where)
    jobs = table.get("jobs", {})
    directory = jobs.get("directory", Jobs.model_fields["directory"].default) if isinstance(jobs, dict) else None
    named = (_expanded(str(directory), where, home),) if directory else ()
    found = tuple(dict.fromkeys((*_own(table, where, home), *named)))
    inside = (STATE, *found)
    return tuple(path for path in found if not any(path != each and path.is_relative_to(each) for each in inside))


def own_places(config: str, where: Path, home: Path) -> tuple[Path, ...]:
    """Return those of `places` that are the daemon's own: it could not make them within the unit's walls."""
    own = _own(_table_of(config, where), where, home)
    return tuple(path for path in places(config, where, home) if path in own)


def _table_of(config: str, where: Path) -> dict[str, object]:
    try:
        return tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise Fatal(f"{where}: {error}", hint="mend it first; `harvestd check` names each problem") from None


def _own(table: dict[str, object], where: Path, home: Path) -> tuple[Path, ...]:
    named = (table.get("data_root", Settings.model_fields["data_root"].default), table.get("state_dir"))
    return tuple(_expanded(str(each), where, home) for each in named if each)


def _expanded(text: str, where: Path, home: Path) -> Path:
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    return where.parent / text


def _quoted(path: Path, before: str = "") -> str:
    r"""Give a path as a unit's word: systemd reads `%`, `\` and `"` in it."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{before}{text}"' if set(text) & set(" \\\"'\t;") else before + text
