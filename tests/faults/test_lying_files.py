"""Files that are not what they were announced to be, from a scripted box: what is wrong is never published."""

import hashlib
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

import pytest
import structlog.testing

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import HostQuarantined
from harvestd.harvest.host.passes import HostOutcome
from support.faults import fired
from support.house import Workstation
from support.lying import Liar, add_port, answered, entry, frame, json_frame, listening, row_of, settled
from support.surroundings import untouched
from support.waiting import events

pytestmark = pytest.mark.anyio

RUN = RunSpec()
HOME = "training_runs"
FINAL = f"{RUN.name}/training_state/step_final"
VICTIM = f"{FINAL}/optimizer.pt"
TERABYTES = 10 * 1024**4


@pytest.fixture
def liar(tmp_path: Path) -> Liar:
    """Return a box with a whole run, honest so far."""
    writer = RunWriter(tmp_path / "box", RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    settled(tmp_path / "box")
    return Liar(tmp_path / "box")


async def visit(workstation: Workstation, liar: Liar) -> HostOutcome:
    """Make a pass over the scripted box, with nothing changed around the data root."""
    async with listening(liar.script) as port:
        add_port(workstation, "liar", port, liar.root)
        with untouched(workstation):
            (outcome,) = (await workstation.outcomes()).values()
    return outcome


def lying_about(path: str, answer: Callable[[int], Iterable[bytes]]) -> Callable[[int, str], Iterable[bytes] | None]:
    """Return the answers of a box that lies about one file."""
    return lambda number, asked: answer(number) if asked == path else None


def nothing_of(workstation: Workstation, path: str) -> bool:
    """Return whether a file of the run is not here."""
    return not workstation.stands(RUN.name, *Path(path).relative_to(RUN.name).parts)()


NUMBERS = {
    "negative": (-1, 1, 1, 5),
    "beyond": (2**63, 1, 1, 5),
    "far beyond": (2**200, 1, 1, 5),
    "negative inode": (5, 1, 1, -1),
    "no number": ("5", 1, 1, 5),
    "time": (5, 2**63, 1, 5),
}


@pytest.mark.parametrize("lie", NUMBERS)
async def test_numbers_that_no_file_has(workstation: Workstation, liar: Liar, lie: str) -> None:
    """A size or time that no file system knows breaks the protocol: the host is quarantined, nothing is fetched."""
    liar.rows = [(HOME, f"{RUN.name}/logs", entry("train_log.jsonl", "f", *NUMBERS[lie]))]
    outcome = await visit(workstation, liar)
    assert isinstance(outcome.error, HostQuarantined)
    fired(52)
    assert workstation.filed() == {}
    workstation.audit()


@pytest.mark.parametrize("difference", [-100, 100], ids=["less", "more"])
async def test_size_is_not_the_content(workstation: Workstation, liar: Liar, difference: int) -> None:
    """A file that is announced shorter or longer than it is, and read as announced, is not published; others are."""
    name, kind, size, *rest = row_of(liar.root / HOME / VICTIM)
    content = (liar.root / HOME / VICTIM).read_bytes()
    version = [int(str(size)) + difference, *rest]
    liar.rows = [(HOME, FINAL, [name, kind, *version])]
    liar.read = lying_about(VICTIM, lambda number: answered(number, content, version))
    outcome = await visit(workstation, liar)
    assert VICTIM in liar.heard
    fired(52)
    assert nothing_of(workstation, VICTIM)
    assert difference > 0 or isinstance(outcome.error, HostQuarantined)
    workstation.audit()


async def test_terabytes_are_refused_before_a_byte(workstation: Workstation, liar: Liar) -> None:
    """A file that does not fit above the floor of free space is not asked for, and what fits comes home."""
    name, kind, _, *rest = row_of(liar.root / HOME / VICTIM)
    liar.rows = [(HOME, FINAL, [name, kind, TERABYTES, *rest])]
    with structlog.testing.capture_logs() as event_log:
        outcome = await visit(workstation, liar)
    assert outcome.result is not None
    assert outcome.result.disk_full
    (low,) = events(event_log, "disk.low")
    assert low["needed_bytes"] >= TERABYTES
    fired(54)
    assert VICTIM not in liar.heard
    assert workstation.stands(RUN.name, "config.yaml")()
    workstation.audit()


VERSION = [10, 1, 1, 77]
ANSWERS: dict[str, Callable[[int], Iterable[bytes]]] = {
    "longer": lambda n: [*_opened(n), frame(b"D", bytes(11))],
    "much longer": lambda n: [*_opened(n), *repeat(frame(b"D", bytes(65_536)), 2000)],
    "no bytes for ever": lambda n: [*_opened(n), *repeat(frame(b"D", b""), 100_000)],
    "another file": lambda n: _opened(n + 1),
    "opened twice": lambda n: [*_opened(n), *_opened(n)],
    "closed before": lambda n: [json_frame(b"C", {"id": n, "version": VERSION, "sha256": "0" * 64})],
    "the end": lambda n: [*_opened(n), json_frame(b"R", {"id": 0})],
    "garbage": lambda _: [b"\x1b[31m\xff" * 1000],
    "a huge frame": lambda _: [b"\xff\xff\xff\xffD" + bytes(1000)],
    "an unknown frame": lambda _: [frame(b"!", b"x")],
    "a scan": lambda _: [frame(b"S", b"x")],
    "a hash that is none": lambda n: [
        *_opened(n),
        frame(b"D", bytes(10)),
        json_frame(b"C", {"id": n, "version": VERSION, "sha256": "Z" * 64}),
    ],
}


def _opened(number: int) -> list[bytes]:
    return [json_frame(b"O", {"id": number, "version": VERSION, "verified": None})]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_answers_that_make_no_sense(workstation: Workstation, liar: Liar, answer: str) -> None:
    """They break the protocol: the host is quarantined, and nothing of the file is here."""
    liar.rows = [(HOME, FINAL, ["optimizer.pt", "f", *VERSION])]
    liar.read = lying_about(VICTIM, ANSWERS[answer])
    outcome = await visit(workstation, liar)
    assert VICTIM in liar.heard
    assert isinstance(outcome.error, HostQuarantined)
    assert "\x1b" not in str(outcome.error)
    fired(55)
    assert nothing_of(workstation, VICTIM)
    workstation.audit()


async def test_log_that_never_begins_as_it_did(workstation: Workstation, liar: Liar) -> None:
    """A box that denies the bytes before an offset, even where there are none, is no source: what was here is kept."""
    path = f"{RUN.name}/logs/train_log.jsonl"
    log = liar.root / HOME / path
    await visit(workstation, liar)
    first = log.read_bytes()
    log.write_bytes(first + b'{"step": 4, "loss": 0.5}\n' * 40)
    offsets = []

    def shifted(number: int) -> Iterable[bytes]:
        offsets.append(number)
        yield json_frame(b"O", {"id": number, "version": row_of(log)[2:], "verified": "0" * 64})
        yield frame(b"D", first[:100])
        yield json_frame(
            b"C", {"id": number, "version": row_of(log)[2:], "sha256": hashlib.sha256(first[:100]).hexdigest()}
        )

    liar.read = lying_about(path, shifted)
    outcome = await visit(workstation, liar)
    assert isinstance(outcome.error, HostQuarantined)
    assert len(offsets) == 2
    fired(55)
    kept = [each.read_bytes() for each in (workstation.data / ".harvestd/versions").rglob("*") if each.is_file()]
    assert first in kept
    workstation.audit()


@pytest.mark.parametrize("path", [VICTIM, f"{RUN.name}/config.yaml"], ids=["checkpoint", "config"])
async def test_flipped_bit(workstation: Workstation, liar: Liar, path: str) -> None:
    """Bytes that are not those of the hash that was told are thrown away, and asked for again."""
    place = liar.root / HOME / path
    content = place.read_bytes()
    flips = [True, False]

    def flipped(number: int) -> Iterable[bytes]:
        wrong = flips.pop(0) if flips else False
        for piece in answered(number, content, row_of(place)[2:]):
            if wrong and piece[4:5] == b"D":
                fired(57)
                yield piece[:-1] + bytes([piece[-1] ^ 1])
            else:
                yield piece

    liar.read = lambda number, asked: flipped(number) if asked == path else None
    outcome = await visit(workstation, liar)
    assert outcome.error is None
    assert (workstation.training(RUN.name) / Path(path).relative_to(RUN.name)).read_bytes() == content
    assert liar.heard.count(path) >= 2
    workstation.audit()


async def test_name_rests_on_no_flipped_bit(workstation: Workstation, liar: Liar) -> None:
    """A digit that flips in the config.yaml that names a run is noticed by its hash, and read again."""
    path = f"{RUN.name}/config.yaml"
    place = liar.root / HOME / path
    content = place.read_bytes()
    garbled = content.replace(b"Qwen2.5-1.5B", b"Qwen2.5-9.5B")
    assert garbled != content
    pieces = [garbled, content, content]

    def flipped(number: int) -> Iterable[bytes]:
        sent = pieces.pop(0) if pieces else content
        for piece in answered(number, content, row_of(place)[2:]):
            if sent != content and content in piece:
                fired(57)
            yield piece.replace(content, sent)

    liar.read = lambda number, asked: flipped(number) if asked == path else None
    outcome = await visit(workstation, liar)
    assert outcome.error is None
    experiment = workstation.experiment(RUN.name)
    assert experiment is not None
    assert "1_5b" in experiment.name
    assert len(pieces) < 2
    workstation.audit()


async def test_bit_that_flips_every_time(workstation: Workstation, liar: Liar) -> None:
    """Nothing of the group is published, and the pass says that it failed."""
    place = liar.root / HOME / VICTIM
    content = bytearray(place.read_bytes())

    def flipped(number: int) -> Iterable[bytes]:
        *head, last = answered(number, bytes(content), row_of(place)[2:])
        fired(57)
        yield from [*head[:-1], head[-1][:-1] + bytes([head[-1][-1] ^ 1]), last]

    liar.read = lying_about(VICTIM, flipped)
    outcome = await visit(workstation, liar)
    assert outcome.result is not None
    assert any("hash" in trouble.reason for trouble in outcome.result.failed.values())
    assert not workstation.stands(RUN.name, "training_state")()
    assert workstation.stands(RUN.name, "config.yaml")()
    workstation.audit()
