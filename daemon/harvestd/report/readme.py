"""Render the generated part of an experiment's README.md from facts. Pure: the same facts give the same text.

Every name from a host or an operator is a code span (`code`): it is displayed and never interpreted.

The generated part of a README.md between a person's notes: found by its two comments, and only it is replaced. The
text before and after it is a person's and is kept byte for byte. To a README without a generated part, the part is
appended once, and replaced there from then on. A comment without its partner is treated as a note. A generated part
that a person removed is appended again with the next change of the experiment.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

from harvestd.convention.kinds import Kind, run_name
from harvestd.convention.paths import ANALYSIS
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.report.facts import Facts
from harvestd.report.scripts.evals import ANSWERS_OF_PASS_RATE, Eval, Setting
from harvestd.report.scripts.lines import Line, lines_of, powers_first
from harvestd.telemetry.sanitize import escaped

_END: Final = "<!-- harvestd ends -->"
_PART: Final = re.compile(
    rb"<!-- harvestd begins: facts (?P<facts>[0-9a-f-]+), pictures (?P<pictures>[0-9a-f-]+) -->"
    rb"(?:(?!<!-- harvestd begins).)*?" + re.escape(_END.encode()),
    re.DOTALL,
)


class Marks(Immutable):
    """Hashes of the generated part's inputs; it is up to date while they are the same."""

    facts: str = "-"
    """Of everything that is recorded."""
    pictures: str = "-"
    """Of the inputs of the pictures beside it."""


def marks_in(readme: bytes) -> Marks | None:
    """Return the marks of the generated part; None where there is none."""
    found = _found(readme)
    return Marks(found["facts"].decode(), found["pictures"].decode()) if found else None


def text_in(readme: bytes) -> str:
    """Return the text of the generated part, as it was given to `with_part`; empty where there is none."""
    found = _found(readme)
    return found[0].split(b"\n", 1)[1].removesuffix(_END.encode()).decode("utf-8", "replace") if found else ""


def with_part(readme: bytes, marks: Marks, text: str) -> bytes:
    """Return `readme` with a new generated part.

    `text` ends in a line break and contains none of harvestd's comments.
    """
    part = f"<!-- harvestd begins: facts {marks.facts}, pictures {marks.pictures} -->\n{text}{_END}".encode()
    found = _found(readme)
    if found:
        return readme[: found.start()] + part + readme[found.end() :]
    if not readme:
        return part + b"\n"
    gap = b"\n" if readme.endswith(b"\n") else b"\n\n"
    return readme + gap + part + b"\n"


def _found(readme: bytes) -> re.Match[bytes] | None:
    """Return the last match: an earlier one may be a person's copy of it."""
    return max(_PART.finditer(readme), key=lambda match: match.start(), default=None)


LONGEST: Final = 300
"""Characters that are shown of one text."""
_BACKTICKS: Final = re.compile("`+")


def code(text: str) -> str:
    """Return `text` as a code span on one line: no HTML, link, control character, or end of harvestd's comments."""
    shown = escaped(text)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}…"
    # Programs that read the file as bytes, as harvestd does, ignore code spans: there must be no comment in it.
    shown = shown.replace("<!--", "<! --").replace("-->", "-- >")
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(shown)), default=0))
    edge = " " if len(fence) > 1 or not shown.strip() else ""
    return f"{fence}{edge}{shown or ' '}{edge}{fence}"


def cell(text: str) -> str:
    """Return `text` as a code span in a table, where even within one a bar would end the cell."""
    return code(text).replace("|", r"\|")


def row(cells: list[str]) -> str:
    """Return one line of a table; its cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    return [row(head), row(["---"] * len(head)), *map(row, rows)]


_MOST_LINES: Final = 20
_MOST_REASONS: Final = 30
_STEP: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_PARTS: Final = {
    "experiment_name": "experiment",
    "date": "date",
    "model": "model",
    "hardware": "hardware",
    "steps": "steps",
}


def rendered(facts: Facts) -> str:
    """Return the text, with a line break at its end."""
    sections = (_head(facts), _results(facts), _pictures(facts), _checkpoints(facts), _left_out(facts), _again(facts))
    return "\n".join(line for section in sections for line in section)


def _head(facts: Facts) -> Iterator[str]:
    known = facts.known
    yield f"# {code(known.experiment.directory)}\n"
    yield "Written by harvestd, and again when something changes; notes above and below this part stay as they are.\n"
    rows = [
        [_PARTS[name], cell(part.value), f"from {cell(part.source)}"]
        for name, part in known.experiment.name.parts.items()
    ]
    for run in known.runs:
        rows += _run(run)
    if facts.logged_at is not None:
        rows.append(["last line logged", _moment(facts.logged_at), "the log's own time on its box"])
    yield from table(["", "", ""], rows)
    if known.experiment.aliases:
        yield f"\nCalled before: {', '.join(map(code, known.experiment.aliases))}"
    yield ""


def _run(run: RunRecord) -> Iterator[list[str]]:
    yield ["run", cell(run.name), state_of(run)]
    yield ["where", cell(f"{run.host}:{run.place}"), ""]
    name = run_name(run.name)
    if name:
        day, _, time = name.timestamp.partition("_")
        yield ["started", f"{day} {time.replace('-', ':')}", "the run directory's name, in the box's time"]
    if run.config.backbone:
        yield ["trained from", cell(run.config.backbone), "config.yaml"]
    if run.config.dataset:
        yield ["trained on", cell(run.config.dataset), "config.yaml"]


def state_of(run: RunRecord) -> str:
    """Return how far a run came, as it is on record, which changes with the run alone and not with time."""
    if run.final:
        return "finished" if run.final.step is None else f"finished at step {run.final.step}"
    word = (
        "not finished" if run.problem is None else f"{run.problem.status} since {_moment(int(run.problem.since * 1e9))}"
    )
    if run.step is None:
        return word
    of = f" of {run.config.total_steps}" if run.config.total_steps is not None else ""
    return f"{word}: step {run.step}{of}"


def _moment(nanoseconds: int) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat(sep=" ")[:19] + " UTC"
    except (ValueError, OverflowError, OSError):
        return "unknown"  # a host may send any number


def _results(facts: Facts) -> Iterator[str]:
    yield "## Results\n"
    every, left_out = lines_of(facts.evals.evals)
    lines = [line for line in every if line.scored]
    if not lines:
        yield "No eval is here yet.\n"
    for line in lines[:_MOST_LINES]:
        yield from _line(line)
    if lines:
        yield from _legend(lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"{len(lines) - _MOST_LINES} more settings were evaluated.\n"
    yield from (f"{code(sentence)}\n" for sentence in left_out[:_MOST_LINES])
    if facts.evals.uncounted:
        yield f"{_count(facts.evals.uncounted, 'more eval')} of this experiment are here and not counted above.\n"
    if facts.training and facts.training.last_step is not None:
        first = f" from step {facts.training.first_step}" if facts.training.first_step is not None else ""
        yield f"The training log goes{first} to step {facts.training.last_step}.\n"
        rows = [[cell(key), f"{number:.4g}", str(step)] for key, (number, step) in facts.training.last.items()]
        if rows:
            yield from table(["training", "last value", "step"], rows)
            yield ""


def _line(line: Line) -> Iterator[str]:
    yield f"{_setting(line.setting)}: {_count(len(line.evals), 'eval')}, means over n questions.\n"
    if line.apart:
        yield f"These lie in {code(line.apart)}.\n"
    notable = _notable(line)
    ks = powers_first({k for _, each in notable for k in each.ks})
    rows = [
        [word, cell(each.step) if each.step else "unknown", str(each.n), _rate(each)]
        + [f"{mean.value:.4f}" if (mean := each.passed(k)) else "" for k in ks]
        for word, each in notable
    ]
    yield from table(["", "step", "n", "pass rate", *(f"pass@{k}" for k in ks)], rows)
    yield ""


def _rate(each: Eval) -> str:
    return f"{each.rate.value:.4f} ± {each.rate.error:.4f}" if each.rate else ""


def _legend(lines: list[Line]) -> Iterator[str]:
    """Yield the explanation of the columns, and where one column is used in place of another."""
    yield (
        "The pass rate is the share of a question's r answers that are right, averaged over the questions, ± one"
        " standard error; the best step is the one with the highest. pass@k is the share of questions of which one of"
        " the first k answers is right.\n"
    )
    if any(line.setting.generations != ANSWERS_OF_PASS_RATE for line in lines):
        yield f"Where r is not {ANSWERS_OF_PASS_RATE}, pass@1 stands for the pass rate.\n"


def _notable(line: Line) -> list[tuple[str, Eval]]:
    """Return the most important evals: the base, the best and the last one, each with its label."""
    if line.best is not None and line.best is line.last:
        labelled = [("base", line.base), ("last and best", line.last)]
    else:
        labelled = [("base", line.base), ("best", line.best), ("last", line.last)]
    return [(word, each) for word, each in labelled if each is not None]


def _setting(setting: Setting) -> str:
    parts = [code(setting.dataset) if setting.dataset else "unknown dataset"]
    for name, number in (("temperature", setting.temperature), ("top-p", setting.top_p), ("r", setting.generations)):
        if number is not None:
            parts.append(f"{name} {number:g}")
    if setting.subset is None:
        parts.append("fraction of the questions unknown")
    elif setting.subset != 1:
        parts.append(f"a fraction of {setting.subset:g} of the questions")
    return ", ".join(parts)


def _pictures(facts: Facts) -> Iterator[str]:
    if facts.pictures:
        yield "## Pictures\n"
        yield from (f"![{name.removesuffix('.png').replace('_', ' ')}]({ANALYSIS}/{name})\n" for name in facts.pictures)


def _checkpoints(facts: Facts) -> Iterator[str]:
    yield "## Checkpoints here\n"
    by_directory: dict[str, list[FileRecord]] = {}
    for file in facts.known.files:
        if file.kind is Kind.CHECKPOINT:
            by_directory.setdefault("/".join(file.target.parts[1:4]), []).append(file)
    if not by_directory:
        yield "None.\n"
        return
    rows = [
        [cell(directory), _size(sum(file.size for file in files)), cell(files[0].reason)]
        for directory, files in sorted(by_directory.items())
    ]
    yield from table(["directory", "size", "because"], rows)
    yield ""


def _left_out(facts: Facts) -> Iterator[str]:
    yield "## Not here\n"
    if not facts.known.left_out:
        yield "Nothing was left out.\n"
        return
    by_reason: dict[str, list[LeftOut]] = {}
    for _, each in facts.known.left_out:
        by_reason.setdefault(each.reason, []).append(each)
    rows = [
        [cell(reason), str(sum(each.entries for each in entries)), _total(entries), _examples(entries)]
        for reason, entries in sorted(by_reason.items())
    ]
    yield from table(["why", "files", "size", "what"], rows[:_MOST_REASONS])
    if len(rows) > _MOST_REASONS:
        yield f"\n{len(rows) - _MOST_REASONS} more reasons."
    yield "\n`manifest.json` lists each of them.\n"


def _examples(entries: list[LeftOut]) -> str:
    names = sorted({PurePosixPath(each.place).name for each in entries})
    more = f" and {len(names) - 3} more names" if len(names) > 3 else ""  # noqa: PLR2004  (as many as a cell shows well)
    return ", ".join(map(cell, names[:3])) + more


def _total(entries: Iterable[LeftOut]) -> str:
    sizes = [each.size for each in entries]
    known = [size for size in sizes if size is not None]
    if not known:
        return "unknown"
    return _size(sum(known)) if len(known) == len(sizes) else f"{_size(sum(known))} at least"


def _again(facts: Facts) -> Iterator[str]:
    if facts.scripts:
        yield "## The scripts\n"
        yield "They need Python and matplotlib, nothing else; a script that you change is yours and stays as it is.\n"
        yield "```sh"
        yield from (f"python {ANALYSIS}/{name}" for name in facts.scripts)
        yield "```\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in _UNITS:
        if round(size, 1) < _STEP:
            break
        size, unit = size / _STEP, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
