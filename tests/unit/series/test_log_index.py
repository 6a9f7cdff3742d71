"""The index of one log: which rows and keys it takes, and what hostile lines cost."""

import json

import pytest

from harvestd.series.log_index import LONGEST_LINE, MOST_KEYS, LogIndex


def index_of(*lines: str | bytes) -> LogIndex:
    """Return the index of a log of these lines."""
    index = LogIndex("a")
    index.add(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return index


def test_a_key_has_its_own_curve_and_a_second_line_of_a_step_adds_to_it() -> None:
    """An older probe appends a second line for a step."""
    index = index_of('{"step": 1, "loss": 0.5}', '{"step": 1, "gns_a": 2}', '{"step": 2, "loss": 0.25}')
    curves = index.query(index.curves, 100).curves
    assert {key: (curve.steps, curve.newest) for key, curve in curves.items()} == {
        "loss": ([1, 2], [0.5, 0.25]),
        "gns_a": ([1], [2.0]),
    }


def test_a_resumed_run_replaces_what_it_repeats() -> None:
    """Steps that fall begin another attempt: the abandoned one is not drawn beside it."""
    index = index_of(*(json.dumps({"step": step, "loss": value}) for step, value in ((1, 9), (2, 9), (3, 9), (2, 5))))
    curve = index.query(["loss"], 100).curves["loss"]
    assert (curve.steps, curve.newest) == ([1, 2], [9.0, 5.0])


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e101", "1" + "0" * 400])
def test_what_is_not_finite_is_a_gap(token: str) -> None:
    """It is counted, and it is neither the lowest nor the highest value."""
    index = index_of('{"step": 1, "loss": 1.0}', f'{{"step": 2, "loss": {token}}}', '{"step": 3, "loss": 2.0}')
    curve = index.query(["loss"], 100).curves["loss"]
    assert (curve.newest, curve.gaps, curve.lowest) == ([1.0, None, 2.0], [0, 1, 0], [1.0, None, 2.0])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[1]",
        '{"loss": 1}',
        '{"step": "1", "loss": 1}',
        '{"step": true, "loss": 1}',
        '{"step": -1, "loss": 1}',
        '{"step": 1e30, "loss": 1}',
        '{"step": 1, "loss": "0.5", "kl": null, "entropy": [1], "r_mean": {"a": 1}, "x": true}',
        '{"step": 1, "loss": ' + "[" * 20_000,
        b'{"step": 1, "\xff": 1}',
        '{"step": 1, "a,b": 1}',
        '{"step": 1, "\\u202e": 1}',
        '{"step": 1, "\\ud800": NaN}',
        '{"step": 1, "' + "k" * 201 + '": 1}',
        '{"step": 1, "loss": 1, "pad": "' + "x" * LONGEST_LINE + '"}',
    ],
)
def test_a_line_without_usable_values_is_skipped(line: str | bytes) -> None:
    """Wrong types, deep nesting, unprintable keys and long lines leave nothing, and the next row counts."""
    index = index_of(line, '{"step": 7, "kl": 0.5}')
    assert {key: list(curve.steps) for key, curve in index.curves.items()} == {"kl": [7]}


def test_thousands_of_keys_are_cut() -> None:
    """The first ones have curves; the answer says that there are more."""
    row = {f"k{number}": 1.0 for number in range(3000)}
    index = index_of(*(json.dumps({"step": step} | row) for step in range(3)))
    assert (len(index.curves), index.keys_left_out) == (MOST_KEYS, 3000 - MOST_KEYS)


def test_a_line_of_megabytes_is_skipped_in_pieces() -> None:
    """Nothing waits for its end, and nothing of it is kept."""
    index = LogIndex("a")
    content = b'{"step": 1, "loss": "' + b"x" * (5 << 20) + b'"}\n{"step": 2, "loss": 1.5}\n'
    for _ in range(1000):
        if not index.add(content[index.offset : index.offset + 2 * LONGEST_LINE]):
            break
    assert (index.offset, list(index.curves["loss"].steps)) == (len(content), [2])
    assert index.size < 20_000


def test_the_size_of_an_index_is_bounded() -> None:
    """A spike in a hundred thousand rows is still the highest value of a bucket."""
    index = LogIndex("a")
    for step in range(100_000):
        index.curves or index.add(b'{"step": 0, "loss": 0.0}\n')
        index.curves["loss"].extend([step], [1e6 if step == 54_321 else 0.0], step + 2)
    curve = index.query(["loss"], 500).curves["loss"]
    assert len(curve.steps) <= 500
    assert [step // curve.width for step, high in zip(curve.steps, curve.highest, strict=True) if high] == [
        54_321 // curve.width
    ]


def test_the_times_of_a_log_go_before_those_of_arrival() -> None:
    """A step between two known times gets a time between them."""
    index = index_of('{"step": 1, "loss": 1}')
    index.observe(1, 100.0)
    index.observe(3, 200.0)
    assert (index.times_from, index.clock.at(2), index.clock.at(4)) == ("arrival", 150.0, None)
    own = index_of('{"step": 1, "timestamp": 1700000000.0}')
    own.observe(1, 100.0)
    assert (own.times_from, own.clock.at(1)) == ("log", 1.7e9)


@pytest.mark.parametrize("cursor", ["", "x", "a", "a.", "a.9999.0", "b.1.0", "a.1.", "a.1.é"])
def test_a_cursor_that_does_not_fit_returns_everything(cursor: str) -> None:
    """Of another log, of one that was shorter, or of no log at all."""
    index = index_of('{"step": 1, "loss": 1}')
    assert index.query(["loss"], 10, cursor).curves["loss"].steps == [1]


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 100])
def test_a_damaged_dump_is_not_loaded(damage: bytes) -> None:
    """The index is made anew then."""
    whole = index_of('{"step": 1, "loss": 1}').dump()
    assert LogIndex.load(damage) is None
    assert LogIndex.load(whole[:-1]) is None
    assert LogIndex.load(whole) is not None
