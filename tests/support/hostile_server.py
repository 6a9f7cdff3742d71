"""A hostile host as a process of its own: each connection gets the next of its inputs, in turn.

`python -m support.hostile_server ROOT` serves the lies about the directory ROOT on loopback, prints its port, then for
each connection how many seconds it lasted from where it broke a limit, with the input's name, and ends when standard
input does. Each input ends in something that no host may do, however harmless it begins.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import count, cycle, repeat
from pathlib import Path
from typing import Final

import asyncssh

from support.floods import KINDS, flood_of, flooding
from support.lying import Asked, Liar, entry, frame, json_frame, listening, play_probe, scan_part

_HOME: Final = "training_runs"
_RUN: Final = "run_2025-08-20_03-31-43"
Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[float]]
"""Plays an input; gives the moment at which it broke a limit."""


def _new_names(_: Asked) -> Iterator[bytes]:
    for part in count():
        yield scan_part(set=[[f"run_{part}", [entry(f"{n}", "f", 1, 1, 1, n) for n in range(1000)]]])


def _bad_names(_: Asked) -> Iterator[bytes]:
    for part in count():
        yield scan_part(set=[["", [entry(f"../{part}-{n}") for n in range(100)]]])


def _bombs(_: Asked) -> Iterator[bytes]:
    return repeat(scan_part(set=[["a", [entry("b" * 200, "f", 1, 1, 1, n) for n in range(4000)]]]))


class _Broken(Liar):
    """Sends its lie once, and garbage when it is asked again."""

    def look(self, asked: Asked, known: dict[int, bytes] | None = None) -> bytes:
        """Answer a scan."""
        return b"garbage" if known else super().look(asked, known)


def _liars(root: Path) -> Iterator[Liar]:
    for scan in (_new_names, _bad_names, _bombs):
        yield Liar(root, scan=scan)
    for garbage in (b"\x1b[31mgarbage" * 10_000, frame(b"S", b"x"), frame(b"E", b"[" * 200_000), b"\xff" * 9):
        yield Liar(root, scan=partial(_says, garbage))
    for size in (-1, 2**63, 10 * 1024**4):
        yield _Broken(
            root, rows=[(_HOME, "run_2025-08-20_03-31-43/logs", entry("train_log.jsonl", "f", size, 1, 1, 7))]
        )
    names = ["..", "../x", "/etc/passwd", "nul\0", "\x1b[2J", "x" * 65_536, "\udcff", ".harvestd", "a\u202eb"]
    yield _Broken(root, rows=[(_HOME, _RUN, entry(name)) for name in names])
    for n, piece in enumerate((frame(b"D", bytes(65_536)), frame(b"D", b""), json_frame(b"R", {"id": 0}))):
        # Another version each time, so that it is asked for.
        yield Liar(
            root, rows=[(_HOME, _RUN, entry("config.yaml", "f", 10, 1, 1, n))], read=partial(_endless_file, piece, n)
        )


def _says(answer: bytes, _: Asked) -> bytes:
    return answer


def _endless_file(piece: bytes, inode: int, number: int, _: str) -> Iterator[bytes]:
    yield json_frame(b"O", {"id": number, "version": [10, 1, 1, inode], "verified": None})
    yield from repeat(piece)


def _breaking(liar: Liar) -> tuple[str, int]:
    """Return the request whose answer breaks a limit, and which of its kind it is: a lie in names alone breaks none."""
    if isinstance(liar, _Broken):
        return "scan", 2
    return ("scan" if liar.scan else "read"), 1


def _lying(liar: Liar) -> Handler:
    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> float:
        script, asked_for, began = liar.script(), Counter[object](), time.monotonic()

        def answer(asked: Asked) -> bytes | Iterable[bytes]:
            nonlocal began
            asked_for[asked["do"]] += 1
            if (asked["do"], asked_for[asked["do"]]) == _breaking(liar):
                began = time.monotonic()
            return script(asked)

        try:
            await play_probe(process, answer)
        except (asyncssh.Error, asyncio.IncompleteReadError, OSError):
            process.close()
        return began

    return handle


def _flooding(kind: str) -> Handler:
    flood = flooding(flood_of(kind))

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> float:
        began = time.monotonic()
        await flood(process)
        return began

    return handle


async def main(root: str) -> None:
    """Serve until standard input ends."""
    # asyncio would tell of each packet that is sent to who has hung up.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    lies = [(f"lie {number}", _lying(liar)) for number, liar in enumerate(_liars(Path(root)))]
    inputs = cycle([*lies, *((kind, _flooding(kind)) for kind in KINDS)])

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        name, play = next(inputs)
        broke = await play(process)
        sys.stdout.write(f"{time.monotonic() - broke} {name}\n")
        sys.stdout.flush()

    async with listening(None, process_factory=handle) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
