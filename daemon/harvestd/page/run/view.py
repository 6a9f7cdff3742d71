"""The view of one run: its curves, evals and files, its configuration, and the verdict on its host."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any, Final
from urllib.parse import quote

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.series import run_of
from harvestd.api.state import Source, status_of_run
from harvestd.convention.kinds import GROWING, Kind, checkpoint_step, run_name
from harvestd.convention.metadata.parse import MAX_FACT_BYTES, InvalidFacts
from harvestd.convention.metadata.yaml import mapping_from_yaml
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.documents.forms import steps
from harvestd.inventory.host import Host
from harvestd.page import plots, verdicts, words
from harvestd.page.host import STATUS
from harvestd.page.run import results, strips
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.run_status import CurrentStatus
from harvestd.report.small_files import UNREADABLE, Known
from harvestd.store.root import DataRoot

_CONFIG: Final = ("training_run", "config.yaml")
_FILES: Final = 8
_LEFT_OUT: Final = 3
"""How many files are shown at once, and how many of them may be left out."""
_MOST_FILES: Final = 200
_SETTINGS: Final = 13
_MOST_SETTINGS: Final = 200
_HOUR: Final = 3600


class Figure(Immutable):
    """One of the headline figures."""

    label: str
    value: str
    unit: str = ""
    about: str = ""


class File(Immutable):
    """A file or directory of the run."""

    folders: str
    name: str
    here: str
    there: str
    confirmed: float | None
    """When its last byte was confirmed here."""
    state: str


class Happening(Immutable):
    """Something that happened."""

    icon: str
    kind: str
    text: str
    about: str = ""


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for an unknown run."""
    run = run_of(source, request.path_params["id"]) if source.ready.is_set() else None
    if run is None:
        raise HTTPException(404, "No run has this id.")
    context = source.context
    knowledge, now = context.catalogue.knowledge, time.time()
    status = status_of_run(run, source, now)
    known = await _known(source, run)
    before = strips.before(run, knowledge)
    series = await strips.read(source, run)
    behind = None if before is None else await strips.read(source, before, tuple(series["keys"]))
    step, total = steps(run)
    # Thousands of points become text: in a thread, so that the event loop goes on.
    curves = await anyio.to_thread.run_sync(strips.curves, series, behind, total)
    known_before = None if before is None else await _known(source, before)
    evals_before = [] if before is None or not known_before else await results.read(source, before, known_before)
    evals_here = await results.read(source, run, known) if known else []
    evals = results.shown(evals_here, evals_before, known.files, curves.last) if known else None
    settings = await anyio.to_thread.run_sync(_settings, source.root, known) if known else []
    host = next((each for each in context.fleet.present.values() if run.is_of(each.name, each.identity)), None)
    name = words.told(run.name, 120)
    done = f"{100 * step // total}{words.SPACE}% \u00b7 " if step and total and not status.is_over else ""
    icon, word = STATUS[status.status]
    files = list(_files(run, known, is_over=status.is_over)) if known else []
    return {
        "title": done + name,
        "run": run,
        "name": name,
        "directory": words.told(known.experiment.directory) if known else "",
        "parts": list(known.experiment.name.parts.values()) if known else [],
        "icon": icon,
        "word": word,
        "host": words.told(run.host, 120),
        "host_url": f"/hosts/{quote(run.host, safe='')}" if host else "",
        "hardware": words.told(known.experiment.name.hardware.value, 60) if known else "",
        "figures": list(_figures(run, source, status, host, evals, "" if before is None else _day(before))),
        "verdict": _verdict(source, host),
        "before": "" if before is None else _day(before),
        "before_id": "" if before is None else before.id,
        "compare": "" if before is None else f"/compare?id={run.experiment}&id={before.experiment}",
        "curves": curves,
        "height": strips.HEIGHT,
        "eval_height": results.HEIGHT,
        "width": plots.WIDTH,
        "checkpoints": _checkpoints(known, curves.last) if known else [],
        "keeps_going": "no" if status.is_over else "yes",
        "evals": evals,
        "files": files[:_FILES],
        "more_files": files[_FILES:_MOST_FILES],
        "sums": _sums(known) if known else "",
        "settings": settings[:_SETTINGS],
        "more_settings": settings[_SETTINGS:_MOST_SETTINGS],
        "happened": list(_happened(run, status, curves, evals)),
    }


async def _known(source: Source, run: RunRecord) -> Known | None:
    """Return everything on record about the run's experiment; None while it has none."""
    catalogue = source.context.catalogue
    if run.experiment is None:
        return None
    files = await catalogue.files.files_of(run.experiment)
    knowledge, left_out = catalogue.knowledge, catalogue.left_out.of(run.experiment)
    return Known(knowledge.experiment(run.experiment), (run,), tuple(files), tuple(left_out))


def _day(run: RunRecord) -> str:
    began = _began(run)
    return "the run before" if began is None else words.clock(began)


def _began(run: RunRecord) -> float | None:
    """Return when a run began, from its name; hosts are on UTC."""
    name = run_name(run.name)
    return None if name is None or name.started is None else name.started.replace(tzinfo=UTC).timestamp()


def _figures(
    run: RunRecord, source: Source, status: CurrentStatus, host: Host | None, evals: results.Shown | None, before: str
) -> Iterator[Figure]:
    step, total = steps(run)
    began, now = _began(run), time.time()
    end = now if status.goes_on else run.step_at
    pace = (run.step_at - began) / step if began and step and run.step_at and run.step_at > began else None
    value = words.DASH if step is None else words.number(step)
    yield Figure(
        "Step",
        value,
        f"of {words.number(total)}" if total and total != step else "",
        f"{pace:.1f}{words.SPACE}s a step" if pace and pace < _HOUR and status.goes_on else "",
    )
    if status.goes_on and run.seconds_left is not None:
        yield Figure(
            "Time left", words.duration(run.seconds_left), "", f"done about {words.clock(now + run.seconds_left)}"
        )
    elif status.since is not None:
        yield Figure("State", STATUS[status.status][1], "", f"since {words.clock(status.since)}")
    if evals is not None and evals.newest is not None:
        rate, error, at = evals.newest
        about = f"n = {evals.n}" if evals.compared is None else _compared(evals.compared, before)
        yield Figure(f"{words.headed(evals.columns[0])} at step {at}", rate, f"\u00b1 {error}", about)
    if host is not None and host.cents_per_hour and began and end and end > began and end - began < 90 * 24 * _HOUR:
        spent = int(host.cents_per_hour * (end - began) / _HOUR)
        price = f"{words.money(host.cents_per_hour)}{words.SPACE}$/h"
        yield Figure("Cost so far", words.money(spent), "$", price)
    if host is not None:
        tally = source.tally.of(host.name)
        judged = source.context.states.of(host.identity).verdict
        risk = verdicts.at_risk(judged, tally, is_training=not status.is_over, is_ending=host.ending is not None)
        yield Figure(f"If {words.told(host.name, 40)} died now", risk.amount, "", risk.what)


def _compared(difference: float, before: str) -> str:
    """Return how a pass rate compares with that of the run before."""
    if round(difference, 3) == 0:
        return f"as {before} at this step"
    sign, word = ("\u25b2", "over") if difference > 0 else ("\u25bc", "below")
    return f"{sign} {abs(difference):.3f} {word} {before} at this step"


def _verdict(source: Source, host: Host | None) -> verdicts.Shown | None:
    if host is None:
        return None
    return verdicts.shown(source.context.states.of(host.identity).verdict, source.tally.of(host.name))


def _checkpoints(known: Known, last: int) -> list[tuple[int, str]]:
    """Return the steps of checkpoints, and where they are on the axis in percent."""
    places = [file.place for file in known.files if file.kind is Kind.CHECKPOINT]
    places += [entry.place for _, entry in known.left_out]
    found = {checkpoint_step(part) for place in places for part in place.split("/") if part.startswith("step_")}
    numbers = sorted(int(each) for each in found if each is not None and each.isdecimal() and int(each) <= last)
    return [(number, plots.percent(number / last)) for number in numbers[-100:]]


def _files(run: RunRecord, known: Known, *, is_over: bool) -> Iterator[File]:
    """Yield the files of the run: growing ones first, then the newest, then what stays on the host."""
    order = {Kind.TRAIN_LOG: 0, Kind.TENSORBOARD: 1, Kind.CONFIG: 2}
    files = sorted(known.files, key=lambda file: (order.get(file.kind, len(order)), -file.fetched_at))
    here = [_file(file, is_over=is_over) for file in files[:_MOST_FILES]]
    there = [_left_out(run, entry) for _, entry in sorted(known.left_out, key=lambda each: -(each[1].size or 0))]
    first = max(_FILES - len(there), _FILES - _LEFT_OUT)
    yield from (*here[:first], *there, *here[first:])


def _left_out(run: RunRecord, entry: LeftOut) -> File:
    folders, _, name = entry.place.removeprefix(f"{run.place}/").rstrip("/").rpartition("/")
    folders = folders if not folders.startswith("/") else folders.rpartition("/")[2]
    state = words.told(entry.reason) if entry.gone_at is None else "gone from the host"
    there = words.size(entry.size)
    return File(words.told(f"{folders}/" if folders else ""), words.told(name), words.DASH, there, None, state)


def _file(file: FileRecord, *, is_over: bool) -> File:
    parts = [part for part in file.target.parts[1:] if part != "training_run"]
    grows = file.kind in GROWING and not is_over
    return File(
        words.told("/".join(parts[:-1]) + "/" if len(parts) > 1 else ""),
        words.told(parts[-1]),
        words.size(file.size),
        words.size(file.version.size),
        file.fetched_at,
        "grows" if grows else "whole, same hash" if file.size >= file.version.size else "incomplete",
    )


def _sums(known: Known) -> str:
    here = sum(file.size for file in known.files)
    there = [entry for _, entry in known.left_out if entry.gone_at is None]
    left = f"; {words.size(sum(entry.size or 0 for entry in there))} left on the host" if there else ""
    return f"{words.count(len(known.files), 'file')}, {words.size(here)} here{left}"


def _settings(root: DataRoot, known: Known) -> list[tuple[str, str]]:
    """Return the keys and values of the run's config.yaml; empty where it can't be read."""
    try:
        path = LocalPath((known.experiment.directory, *_CONFIG))
        found = mapping_from_yaml(root.read(path, MAX_FACT_BYTES))
    except (*UNREADABLE, InvalidFacts, RejectedPath):
        return []
    return [(words.told(key, 80), words.told(value, 120)) for key, value in _flat(found, "")]


def _flat(found: Mapping[str, Any], above: str) -> Iterator[tuple[str, object]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}", ", ".join(map(str, value))
        else:
            yield f"{above}{key}", words.DASH if value is None else value


def _happened(
    run: RunRecord, status: CurrentStatus, curves: strips.Curves, evals: results.Shown | None
) -> Iterator[Happening]:
    if status.is_over and status.since is not None:
        icon, word = STATUS[status.status]
        kind = "" if run.finished else "bad"
        yield Happening(
            icon, kind, word.capitalize(), f"{words.clock(status.since)}, {words.count(curves.steps, 'step')}"
        )
    if run.problem is not None and not status.is_over:
        icon, word = STATUS[run.problem.status]
        yield Happening(icon, "warn", word.capitalize(), f"since {words.clock(run.problem.since)}")
    for step, at, seconds in curves.silences:
        text = f"Silent for {words.duration(seconds)} after step {words.number(step)}"
        yield Happening("halted", "warn", text, f"{words.clock(at)} to {words.clock(at + seconds)}, went on by itself")
    for names, first, last, count in curves.gaps:
        where = (
            f"step {words.number(first)}" if first == last else f"steps {words.number(first)} to {words.number(last)}"
        )
        yield Happening("cross", "bad", f"{names} NaN in {words.count(count, 'row')}", where)
    if evals is not None:
        text = f"{words.count(len(evals.rows), 'eval')}, the newest of step {evals.rows[0].step}"
        yield Happening("check", "", text, evals.setting)
