"""One experiment: its README and pictures, its files with where they are from, what is left out, its names."""

from functools import partial
from typing import Final
from urllib.parse import quote

from markupsafe import Markup
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from harvestd.api.state import Source
from harvestd.catalogue import queries
from harvestd.convention.paths import ANALYSIS, README, LocalPath, RejectedPath
from harvestd.convention.structs import Immutable
from harvestd.documents.experiments import ExperimentReader, ExperimentView
from harvestd.page import words
from harvestd.page.experiments import markdown, reading
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.report.facts import pictures_in
from harvestd.report.small_files import UNREADABLE
from harvestd.store.root import DataRoot

MOST_FILES: Final = 200
_MOST_REASONS: Final = 50
_README_LIMIT: Final = 8 << 20
_PICTURE_LIMIT: Final = 20 << 20
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_DIGITS: Final = 12
"""Of a hash, as it is shown."""
_PARTS: Final = {
    "experiment_name": "Name",
    "date": "Date",
    "model": "Model",
    "hardware": "Hardware",
    "steps": "Steps",
}
_KIND: Final = {"train_log": "training log", "eval_config": "config of an eval", "run_meta": "facts of an eval"}


class File(Immutable):
    """One local file."""

    folders: str
    name: str
    kind: str
    host: str
    place: str
    size: str
    sha256: str
    short: str
    fetched_at: float
    reason: str


class Picture(Immutable):
    """One picture of `analysis/`."""

    name: str
    url: str


class _Report(Immutable):
    """What harvestd and a person wrote about an experiment."""

    readme: Markup | None
    pictures: tuple[Picture, ...]
    """Those that the README does not show."""


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for an unknown experiment."""
    return await reading.read(source, partial(_values, request.path_params["id"]))


async def picture(source: Source, request: Request) -> Response:
    """Answer with one picture of `analysis/`; raise `HTTPException` (404) for everything else."""
    name = request.path_params["name"]

    def content(connection: Connection, reader: ExperimentReader) -> bytes:
        directory = _directory(_experiment(connection, request.path_params["id"]))
        if reader.root is None or directory is None or name not in pictures_in(reader.root, directory):
            return b""
        try:
            return reader.root.read(directory.child(ANALYSIS, name), _PICTURE_LIMIT)
        except UNREADABLE:
            return b""

    found = await reading.read(source, content)
    # A browser must not be led to take it for anything else.
    if not found.startswith(_PNG):
        raise HTTPException(404, "No picture is called so.")
    # Its address has the moment of its last change.
    return Response(found, media_type="image/png", headers={"cache-control": "private, max-age=86400"})


def _experiment(connection: Connection, identifier: str) -> ExperimentRecord:
    known = queries.experiments(connection)
    found = known.get(identifier) or next((each for each in known.values() if each.directory == identifier), None)
    if found is None:
        raise HTTPException(404, "No experiment has this id.")
    return found


def _directory(experiment: ExperimentRecord) -> LocalPath | None:
    try:
        return None if experiment.gone else LocalPath((experiment.directory,))
    except RejectedPath:
        return None


def _values(identifier: str, connection: Connection, reader: ExperimentReader) -> dict[str, object]:
    view = reader.view(connection, _experiment(connection, identifier))
    experiment = view.experiment
    files = queries.first_files(connection, experiment.id, MOST_FILES)
    left_out = queries.left_out_by_reason(connection, experiment.id)
    icon, state = reading.state_of(view)
    report = _report(reader.root, experiment)
    best, last = reading.rate_of(view.best), reading.rate_of(view.last)
    return {
        "title": words.told(experiment.directory, 80),
        "name": reading.name_of(view),
        "directory": words.told(experiment.directory),
        "icon": icon,
        "state": state,
        "steps": reading.steps_of(view),
        "best": best,
        "best_at": f"at step {words.told(view.best.step, 20)}, n {words.number(view.best.n)}" if view.best else "",
        "last": last,
        "last_at": f"at step {words.told(view.last.step, 20)}" if view.last else "no eval yet",
        "size": words.size(view.holding.size),
        "file_count": view.holding.files,
        "left_out": reading.left_out_of(view),
        "entries": view.left_out.entries,
        "readme": report.readme,
        "pictures": report.pictures,
        "files": [_file(file) for file in files],
        "more_files": max(0, view.holding.files - len(files)),
        "reasons": left_out[:_MOST_REASONS],
        "more_reasons": max(0, len(left_out) - _MOST_REASONS),
        "runs": [
            (words.told(run.name, 80), f"/runs/{quote(run.id, safe='')}", words.told(run.host, 80)) for run in view.runs
        ],
        "parts": _parts(view),
        "names": [*(words.told(name) for name in experiment.aliases), words.told(experiment.directory)],
        "by_hand": experiment.moved_to is not None,
        "gone": experiment.gone,
    }


def _parts(view: ExperimentView) -> list[tuple[str, str, str]]:
    """Return the parts of the name: the label, the value and where it is from."""
    parts = view.experiment.name.parts
    return [
        (label, words.told(parts[key].value, 80), words.told(parts[key].source, 80)) for key, label in _PARTS.items()
    ]


def _file(file: FileRecord) -> File:
    *folders, name = file.target.parts[1:] or file.target.parts
    kind = str(file.kind)
    return File(
        folders=words.told("".join(f"{folder}/" for folder in folders)),
        name=words.told(name, reading.LONGEST),
        kind=_KIND.get(kind, kind.replace("_", " ")),
        host=words.told(file.host, 80),
        place=words.told(file.place),
        size=words.size(file.size),
        sha256=words.told(file.sha256, 64),
        short=words.told(file.sha256[:_DIGITS]),
        fetched_at=file.fetched_at,
        reason=words.told(file.reason),
    )


def _report(root: DataRoot | None, experiment: ExperimentRecord) -> _Report:
    """Return the README of an experiment as HTML, and the pictures that it does not show."""
    directory = _directory(experiment)
    if root is None or directory is None:
        return _Report(None, ())
    names = pictures_in(root, directory)
    urls = {name: _url(root, experiment, directory, name) for name in names}
    try:
        text = root.read(directory / README, _README_LIMIT).decode("utf-8", "replace")
    except UNREADABLE:
        text = ""
    readme = markdown.rendered(text, experiment.directory, names, urls.__getitem__) if text.strip() else None
    others = [name for name in names if readme is None or urls[name] not in readme]
    return _Report(readme, tuple(Picture(name.removesuffix(".png").replace("_", " "), urls[name]) for name in others))


def _url(root: DataRoot, experiment: ExperimentRecord, directory: LocalPath, name: str) -> str:
    status = root.stat(directory.child(ANALYSIS, name))
    version = status.st_mtime_ns if status else 0
    return f"/experiments/{quote(experiment.id, safe='')}/pictures/{quote(name)}?at={version}"
