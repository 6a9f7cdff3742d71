"""The demo's output: one short line for each event that matters, then the tree and what was left out."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harvestd.catalogue.engine import reading
from harvestd.catalogue.queries import left_out_elsewhere
from harvestd.demo.judging import files_in
from harvestd.telemetry.events import Event
from harvestd.telemetry.sanitize import escaped

_KIB = 1024
_SHOWN_EVENTS = {
    Event.HOST_CONNECTED: "connected, reading by {method}",
    Event.RUN_DISCOVERED: "found run {run_id}",
    Event.EXPERIMENT_NAMED: "named it {path}",
    Event.RUN_FINISHED: "{run_id} is finished, {steps} steps",
    Event.EVAL_COMPLETED: "eval complete: {path}",
    Event.CHECKPOINT_COMPLETED: "checkpoint complete: {path}",
    Event.HOST_LOST: "lost: {error}",
    Event.HOST_QUARANTINED: "quarantined: {error}",
    Event.FILE_CONFLICT: "conflict at {path}: {error}",
    Event.FILE_REJECTED: "rejected {path}: {error}",
}
_GROWING = {"train_log": "log", "tensorboard": "TensorBoard file"}


class Telling:
    """Converts the daemon's events into lines; appends to growing files are shown once each, then counted."""

    def __init__(self, roots: Iterable[Path]) -> None:
        """Store the hosts' roots, which are removed from paths."""
        self._roots = [f"{root}/" for root in roots]
        self._appends: Counter[str] = Counter()

    def line(self, event: Mapping[str, object]) -> str | None:
        """Return the line for one event; None for one that is not shown."""
        name, host = event.get("event"), event.get("host", "")
        if name == Event.FILE_DOWNLOADED and event.get("kind") in _GROWING:
            return self._appended(event)
        form = _SHOWN_EVENTS.get(Event(str(name)))
        if form is None:
            return None
        fields = {key: self._short(str(value)) for key, value in event.items()}
        return f"{host:<7}{form.format_map(fields)}"

    def _appended(self, event: Mapping[str, object]) -> str | None:
        path = str(event.get("path"))
        self._appends[path] += 1
        if self._appends[path] != 2:  # noqa: PLR2004  (the first is the file itself, the second shows that it grows)
            return None
        return f"{event.get('host', ''):<7}{_GROWING[str(event.get('kind'))]} grows in place: {path.rsplit('/', 1)[-1]}"

    def _short(self, text: str) -> str:
        for root in self._roots:
            text = text.replace(root, "")
        return text

    def appends(self) -> int:
        """Return how many appends were made in place."""
        return sum(count - 1 for count in self._appends.values())


def tree(data_root: Path) -> Iterator[str]:
    """Yield the lines of the data root's tree; directories with a single entry are folded into one line."""
    files = {path.relative_to(data_root).parts: path for path in files_in(data_root)}
    yield from _branch(data_root, files, 0, "")


def _branch(data_root: Path, files: Mapping[tuple[str, ...], Path], depth: int, indent: str) -> Iterator[str]:
    names = sorted({parts[depth] for parts in files})
    for name in names:
        below = {parts: path for parts, path in files.items() if parts[depth] == name}
        shown, level = name, depth
        while len({parts[level + 1] for parts in below if len(parts) > level + 1}) == 1 and _all_deeper(below, level):
            level += 1
            shown += "/" + next(iter(below))[level]
        leaf = below.get(next(iter(below))[: level + 1])
        if leaf is not None:
            yield f"{indent}{escaped(shown)}{_size_of(leaf)}"
        else:
            yield f"{indent}{escaped(shown)}/"
            yield from _branch(data_root, below, level + 1, indent + "    ")


def _all_deeper(files: Mapping[tuple[str, ...], Path], level: int) -> bool:
    return all(len(parts) > level + 1 for parts in files)


def _size_of(path: Path) -> str:
    if path.is_symlink():
        return f" -> {escaped(str(path.readlink()))}"
    return f"  ({human_size(path.stat().st_size)})"


def human_size(size: int | None) -> str:
    """Return a size in bytes as readable text; None as "size unknown"."""
    if size is None:
        return "size unknown"
    return f"{size} B" if size < _KIB else f"{size / _KIB:.0f} KiB"


def left_out(data_root: Path) -> Iterator[str]:
    """Yield a line for each left-out entry: those of the manifests, then those without an experiment."""
    for manifest in sorted(data_root.glob("*/manifest.json")):
        yield f"{manifest.parent.name}:"
        for entry in json.loads(manifest.read_bytes())["left_out"]:
            yield _left_out_line(entry["size"], entry["path"], entry["reason"])
    with reading(data_root / ".harvestd") as connection:
        if connection is not None:
            yield "in no experiment:"
            for _, each in left_out_elsewhere(connection):
                yield _left_out_line(each.size, each.place, each.reason)


def _left_out_line(size: int | None, place: str, reason: str) -> str:
    below_the_tree = "/".join(place.split("/localfs/", 1)[-1].split("/")[1:])
    return f"    {human_size(size):>12}  {escaped(below_the_tree)}  ({escaped(reason)})"
