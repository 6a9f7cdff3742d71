"""`harvestd notify`: the receivers of alarms, the newest alarms and their deliveries; `--test` tries each receiver."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import click

from harvestd.catalogue import notifications, queries
from harvestd.catalogue.notifications import Receipt
from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output import units
from harvestd.cli.output.page import Column, Page, Styled, print_json
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.json_text import timestamp
from harvestd.notify.messages import message_of, trial
from harvestd.notify.receivers import Answer, Receiver, attempt, receivers_of
from harvestd.settings import Settings

_NEWEST: Final = 20
_EPILOG = """\b
Exit codes: 0, 2 no receiver is configured, 3 a receiver did not take the test.

\b
--json: receivers[] {receiver, events[], waiting} and notifications[] {key, event,
  created, title, receivers, delivered, dropped, error}
--test --json: ok, receivers[] {receiver, ok, said, hint, seconds}
"""
_NO_RECEIVER: Final = (
    'set one of these in [notify]: urls = ["ntfy://…"] (mail, chat and push services), webhook = "https://…", or'
    ' command = ["…"]'
)
_TRIED = (
    Column("RECEIVER"),
    Column(""),
    Column("ANSWER", wide=True),
    Column("TIME", "right"),
    Column("HINT", wide=True, mark="hint: "),
)
_RECEIVERS = (Column("RECEIVER"), Column("WAITING", "right"))
_ALARMS = (Column("WHEN", "right"), Column("EVENT"), Column("TAKEN BY"), Column("ALARM", wide=True))


class _Tried(Immutable):
    receiver: Receiver
    answer: Answer
    seconds: float


@click.command(epilog=_EPILOG)
@click.option("--test", "is_test", is_flag=True, help="Send each receiver a message now, and show what it answers.")
@with_json
@with_flags
@click.pass_obj
def notify(flags: Flags, *, is_test: bool, as_json: bool) -> ExitCode:
    """Show the newest alarms, and which receivers got them.

    Alarms are what a person can act on, such as a run that stalled or a host that may be switched off; `[notify]`
    names the receivers. With --test each receiver gets a message at once, in quiet hours, too.
    """
    settings = settings_of(flags)
    receivers = receivers_of(settings.notify)
    if is_test:
        return _test(receivers, as_json=as_json)
    with queries.questions(settings.state) as connection:
        newest = notifications.latest(connection, _NEWEST)
        waiting = notifications.waiting(connection)
    if as_json:
        print_json(
            {
                "receivers": [
                    {"receiver": each.label, "events": list(settings.notify.events), "waiting": waiting.get(each.id, 0)}
                    for each in receivers
                ],
                "notifications": [_document(each) for each in newest],
            }
        )
    else:
        _write(settings, receivers, newest, waiting)
    return ExitCode.OK


def _write(
    settings: Settings, receivers: Sequence[Receiver], newest: Sequence[Receipt], waiting: Mapping[str, int]
) -> None:
    page = Page()
    if not receivers:
        page.line(f"no alarm is sent: {_NO_RECEIVER}")
    else:
        page.table(_RECEIVERS, [(each.label, str(waiting.get(each.id, 0))) for each in receivers])
        page.line(f"they get {', '.join(settings.notify.events)}")
    if not newest:
        page.line("there was no alarm yet")
        return
    page.heading("The newest alarms")
    page.table(
        _ALARMS,
        [
            (units.age(each.notification.created), each.notification.event, _taken(each), _title(each))
            for each in newest
        ],
    )


def _taken(each: Receipt) -> str | Styled:
    if not each.receivers:
        return units.NOTHING
    text = f"{each.delivered} of {each.receivers}"
    return text if each.delivered == each.receivers else Styled(text, "red" if each.error else "yellow")


def _title(each: Receipt) -> str:
    return message_of([each.notification]).title


def _document(each: Receipt) -> dict[str, Any]:
    return {
        "key": each.notification.key,
        "event": each.notification.event,
        "created": timestamp(each.notification.created),
        "title": _title(each),
        "receivers": each.receivers,
        "delivered": each.delivered,
        "dropped": each.dropped,
        "error": each.error,
    }


def _test(receivers: Sequence[Receiver], *, as_json: bool) -> ExitCode:
    if not receivers:
        raise Fatal("no receiver of alarms is configured", hint=_NO_RECEIVER)
    tried = run_interruptible(_tried, receivers)
    is_good = all(each.answer.ok for each in tried)
    if as_json:
        print_json({"ok": is_good, "receivers": [_tried_document(each) for each in tried]})
    else:
        good, bad = Styled("ok", "green"), Styled("FAILED", "red")
        rows = [
            (
                each.receiver.label,
                good if each.answer.ok else bad,
                each.answer.said,
                units.duration(each.seconds),
                Styled(each.answer.hint, "cyan"),
            )
            for each in tried
        ]
        Page().table(_TRIED, rows)
    return ExitCode.OK if is_good else ExitCode.PARTIAL


async def _tried(receivers: Sequence[Receiver]) -> list[_Tried]:
    """Send the test to all receivers at the same time."""
    found: dict[str, _Tried] = {}

    async def send(receiver: Receiver) -> None:
        began = time.monotonic()
        answer = await attempt(receiver, trial(time.time()))
        found[receiver.id] = _Tried(receiver, answer, time.monotonic() - began)

    async with anyio.create_task_group() as tasks:
        for receiver in receivers:
            tasks.start_soon(send, receiver)
    return [found[receiver.id] for receiver in receivers]


def _tried_document(each: _Tried) -> dict[str, Any]:
    return {
        "receiver": each.receiver.label,
        "ok": each.answer.ok,
        "said": each.answer.said,
        "hint": each.answer.hint,
        "seconds": round(each.seconds, 3),
    }
