"""What becomes of an event's fields: plain, bounded, and without secrets."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from harvestd.convention.paths import RemotePath
from harvestd.telemetry.events import Event
from harvestd.telemetry.serialize import made_plain


def told(**fields: object) -> dict[str, object]:
    """Return the fields as they are rendered."""
    return dict(made_plain(None, "info", fields))


def test_values_of_our_own_kinds_come_out_plain() -> None:
    """Paths are texts, spans of time are seconds and say so, sets are sorted lists."""

    @dataclass(frozen=True)
    class Loss:
        path: RemotePath
        size: int

    event = told(
        duration=timedelta(milliseconds=1500),
        idle_for=timedelta(seconds=2),
        path=RemotePath.parse("a/b"),
        local=Path("/x/y"),
        names=frozenset({8, 1}),
        at=datetime(2025, 8, 20, tzinfo=UTC),
        error=ValueError("bad"),
        odd=float("nan"),
        raw=b"a\xff",
        nested={"kind": Event.DISK_LOW, "wait": timedelta(seconds=3), 5: None, "yes": True},
        loss=Loss(RemotePath.parse("c/d"), 7),
    )
    assert event == {
        "duration_seconds": 1.5,
        "idle_for_seconds": 2.0,
        "path": "a/b",
        "local": "/x/y",
        "names": [1, 8],
        "at": "2025-08-20T00:00:00.000000Z",
        "error": "ValueError: bad",
        "odd": "nan",
        "raw": "a\\udcff",
        "nested": {"kind": "disk.low", "wait_seconds": 3.0, "5": None, "yes": True},
        "loss": {"path": "c/d", "size": 7},
    }


def test_secrets_are_hidden_by_their_names() -> None:
    """Whoever logs an answer of the cloud as it is gives nothing away."""
    event = told(
        jupyter_token="s3cret",  # noqa: S106 - the secret of this test
        answer={"jupyter_url": "https://s3cret", "API_KEY": "s3cret", "id": "i", "more": [{"Password": "s3cret"}]},
        client_secret={"a": "s3cret"},
        key=SecretStr("s3cret"),
    )
    assert "s3cret" not in json.dumps(event)
    assert event["jupyter_token"] == "[hidden]"  # noqa: S105 - what stands in place of one
    assert event["answer"] == {
        "jupyter_url": "[hidden]",
        "API_KEY": "[hidden]",
        "id": "i",
        "more": [{"Password": "[hidden]"}],
    }


def test_what_a_box_sends_cannot_make_an_event_endless() -> None:
    """Long texts, long lists and endless nesting are cut."""
    endless: list[object] = []
    endless.append(endless)
    event = told(
        path="x" * 1_000_000,
        names=["n"] * 100_000,
        endless=endless,
        many=dict.fromkeys(range(9999)),
    )
    assert len(json.dumps(event)) < 50_000
    assert "more characters" in str(event["path"])
    assert "more" in str(event["names"])
