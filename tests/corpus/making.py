"""Makes the corpus of frames anew: `PYTHONPATH=tests python -m corpus.making` (from the checkout's root).

Each file of `frames/` is what one channel carries after the marker. `good-…` is what an honest program sends, the rest
breaks one rule each; a byte stream that once broke something is added below, with a word of why. The same source gives
the same bytes: nothing of chance and no clock is in it, and packed frames are stored, not compressed by whatever zlib
there is.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

FRAMES = Path(__file__).with_name("frames")
LIMIT = 64 * 1024
"""Bytes of a frame, for those who read the corpus."""


def frame(letter: bytes, payload: bytes) -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload) + 1) + letter + payload


def json_frame(letter: bytes, value: object) -> bytes:
    """Return one frame of JSON."""
    return frame(letter, json.dumps(value).encode())


def stored(data: bytes) -> bytes:
    """Return a zlib stream of `data` that every zlib writes the same: blocks that are not compressed."""
    pieces = [data[at : at + 65_535] for at in range(0, len(data), 65_535)] or [b""]
    blocks = b"".join(
        struct.pack("<BHH", number == len(pieces), len(piece), len(piece) ^ 0xFFFF) + piece
        for number, piece in enumerate(pieces, 1)
    )
    return b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(data))


def zeros(size: int) -> bytes:
    """Return a zlib stream that unpacks to at least `size` zero bytes, and is 150 times smaller; it has no end."""
    # One block of fixed codes: a literal zero, then "258 bytes from one byte before" again and again.
    bits = "110" + "00110000" + ("11000101" + "00000") * (size // 258 + 1)
    bits += "0" * (-len(bits) % 8)
    return b"\x78\x01" + bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def scan(**news: object) -> bytes:
    """Return news of the first tree."""
    return frame(b"S", stored(json.dumps({"tree": 0, **news}).encode()))


def whole(number: int, size: int, data: bytes) -> bytes:
    """Return a small file in one."""
    return frame(b"W", struct.pack(">IQqqQ32s", number, size, 2, 3, 4, bytes(32)) + data)


_FILE = ["a.json", "f", 7, 1, 2, 3]
_END = json_frame(b"E", {"id": 1, "now": 1, "trees": [[0, "present", 1, "ext4"]]})
_FACTS = {"id": 1, "gpus": ["NVIDIA H100"], "host": "box", "utc_offset": 0, "free": 1, "python": "3.10.0"}
_OPENED = json_frame(b"O", {"id": 0, "version": [4, 1, 2, 3], "verified": None})
_CLOSED = json_frame(b"C", {"id": 0, "version": [4, 1, 2, 3], "sha256": "0" * 64})
_ZEROS = zeros(1_000_000)

CORPUS: Mapping[str, bytes] = {
    "good-hello": json_frame(b"H", {"python": "3.10.0"}),
    "good-scan": scan(set=[["", [_FILE]], ["b", [["c", "d", 0, 1, 2, 3]]]]) + _END,
    "good-delta": scan(gone=[["", ["a.json"]]], shut=["secret"], open=["b"]) + _END,
    "good-link": scan(set=[["", [["latest", "l", 1, 1, 2, 3, "step_4"]]]]) + _END,
    "good-unchanged": json_frame(b"U", {"id": 0, "now": 1, "trees": [], "at": 5, "took": 12}),
    "good-facts": json_frame(b"F", _FACTS),
    "good-file": _OPENED + frame(b"D", b"data") + _CLOSED + json_frame(b"R", {"id": 0}),
    "good-whole": whole(0, 4, b"data") + json_frame(b"R", {"id": 0}),
    "good-failed": json_frame(b"X", {"id": 0, "reason": "permission denied", "vanished": False})
    + json_frame(b"R", {"id": 0}),
    "good-waiting": frame(b"K", b"") * 3,
    "good-packed": frame(b"Z", stored(whole(0, 4, b"data") + frame(b"K", b"s"))) + json_frame(b"R", {"id": 0}),
    "good-refused": json_frame(b"Q", {"kind": "gone", "why": "no such tree"}),
    "nothing": b"",
    "half-a-head": b"\x00\x00\x00",
    "size-zero": struct.pack(">I", 0) * 4,
    "size-of-2-gb": struct.pack(">I", 2**31) + b"S" + bytes(64),
    "size-one-too-many": struct.pack(">I", LIMIT + 2) + b"E" + bytes(64),
    "size-at-the-limit": struct.pack(">I", LIMIT + 1) + b"E" + b"[" * LIMIT,
    "letter-unknown": frame(b"!", b"x"),
    "letter-nul": frame(b"\x00", b""),
    "data-empty": _OPENED + frame(b"D", b"") * 50,
    "data-unopened": frame(b"D", b"data"),
    "data-too-much": _OPENED + frame(b"D", b"12345"),
    "closed-unopened": _CLOSED,
    "closed-twice": _OPENED + frame(b"D", b"data") + _CLOSED + _CLOSED,
    "opened-twice": _OPENED + _OPENED,
    "end-too-soon": json_frame(b"R", {"id": 0}),
    "another-file": json_frame(b"O", {"id": 9, "version": [4, 1, 2, 3], "verified": None}),
    "whole-short": frame(b"W", b"x" * 8),
    "whole-of-2-to-the-64": whole(0, 2**64 - 1, b"data"),
    "whole-too-little": whole(0, 9, b"data"),
    "packed-garbage": frame(b"Z", b"not packed"),
    "packed-nothing": frame(b"Z", b""),
    "packed-cut": frame(b"Z", stored(frame(b"K", b"s"))[:-6]),
    "packed-half-a-frame": frame(b"Z", stored(frame(b"K", b"s")[:-1])),
    "packed-half-data": frame(b"Z", stored(struct.pack(">I", 100) + b"D" + b"x")),
    "packed-in-packed": frame(b"Z", stored(frame(b"Z", stored(b"")))),
    "packed-with-a-tail": frame(b"Z", stored(frame(b"K", b"s")) + b"tail"),
    "packed-zeros": frame(b"Z", _ZEROS),
    "scan-garbage": frame(b"S", b"not packed"),
    "scan-zeros": frame(b"S", _ZEROS),
    "scan-with-a-tail": frame(b"S", stored(b'{"tree": 0}') + b"tail"),
    "scan-no-json": frame(b"S", stored(b"{nonsense")),
    "scan-no-utf8": frame(b"S", stored(b'{"tree": 0, "gone": [["", ["\xff\xfe"]]]}')),
    "scan-other-tree": scan(tree=7),
    "scan-tree-true": scan(tree=True),
    "scan-names-that-leave": scan(set=[["..", [_FILE]], ["", [["../x", *_FILE[1:]], ["/etc", *_FILE[1:]]]]]),
    "scan-nul": scan(set=[["", [["a\0b", *_FILE[1:]]]]]),
    "scan-surrogates": scan(set=[["", [["\ud800", *_FILE[1:]], ["\udcff", *_FILE[1:]], ["\udcc3\udca4", *_FILE[1:]]]]]),
    "scan-link-nowhere": scan(set=[["", [["l", "l", 1, 1, 2, 3, ""]]]]),
    "scan-link-surrogate": scan(set=[["", [["l", "l", 1, 1, 2, 3, "\ud800"]]]]),
    "scan-file-with-target": scan(set=[["", [[*_FILE, "x"]]]]),
    "scan-numbers": scan(set=[["", [["a", "f", 2**63, 1, 2, 3]]]]),
    "scan-float": scan(set=[["", [["a", "f", 1.5, 1, 2, 3]]]]),
    "scan-null": scan(set=None, gone=None),
    "scan-shapes": scan(set=[["a"], [], {}, 1]),
    "scan-kind-is-a-list": scan(set=[["", [["a", ["f"], 1, 2, 3, 4]]]]),
    "scan-directory-is-null": scan(gone=[[None, ["a"]]]),
    "end-deep": frame(b"E", b"[" * 30_000),
    "end-deep-object": frame(b"E", b'{"a":' * 10_000),
    "end-endless-number": frame(b"E", b'{"id":' + b"9" * 10_000 + b"}"),
    "end-exponent": frame(b"E", b'{"id": 1e999, "now": NaN, "trees": []}'),
    "end-no-object": json_frame(b"E", [1]),
    "end-states": json_frame(b"E", {"id": 1, "now": 1, "trees": [[0, "\x1b[31m", 1, ""], [0, 1, 2, 3]]}),
    "end-stamps": json_frame(b"E", {"id": 0, "now": 1, "trees": [], "at": -1, "took": 10**12}),
    "unchanged-but-changed": json_frame(b"U", {"id": 0, "now": 1, "trees": [[0, "present", 1, "ext4"]]}),
    "unchanged-shapes": json_frame(b"U", {"id": [], "now": {}, "trees": None, "at": "1", "took": 1.5}),
    "verified-unasked": frame(b"V", struct.pack(">IQqqQ32s", 0, 4, 1, 2, 3, bytes(32))),
    "verified-short": frame(b"V", b"x" * 8),
    "facts-lies": json_frame(b"F", {**_FACTS, "utc_offset": 10**9, "gpus": ["\x1b]0;x\x07"] * 100, "free": -1}),
    "facts-shapes": json_frame(b"F", {"id": [], "gpus": {}, "host": None, "utc_offset": "0", "free": {}, "python": []}),
    "failed-long": json_frame(b"X", {"id": 0, "reason": "x" * 10_000, "vanished": 1}),
    "refused-shapes": json_frame(b"Q", {"kind": ["gone"], "why": {"a": 1}}),
    "duplicate-keys": frame(b"X", b'{"id": 0, "id": 1, "reason": "", "reason": 3}'),
    "escape-garbage": b"\x1b[31mgarbage" * 20,
}
"""The frames of each file, by its name."""


def main() -> None:
    """Write all files, and remove those that are none any more."""
    FRAMES.mkdir(exist_ok=True)
    for path in FRAMES.glob("*.bin"):
        path.unlink()
    for name, content in CORPUS.items():
        (FRAMES / f"{name}.bin").write_bytes(content)


if __name__ == "__main__":
    main()
