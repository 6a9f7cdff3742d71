"""The table [notify]: the receivers of alarms, which alarms they get, and when.

The addresses of receivers may hold passwords or tokens, so they are `SecretStr`, and no check quotes one.
"""

import base64
import binascii
import re
from datetime import timedelta
from importlib.util import find_spec
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from harvestd.settings.sections import SettingsTable
from harvestd.settings.types import Duration, OwnPath, Plain, within

EXTRA: Final = "pip install 'harvestd[notify]'"
"""The command that installs what `urls` need."""
_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)
_APPRISE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_QUIET: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01][0-9]|2[0-3]):([0-5][0-9])")


def _http_url(value: SecretStr) -> SecretStr:
    example = 'must be a URL such as "https://example.org/hook"'
    try:
        url = urlsplit(value.get_secret_value())
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(example) from None
    text = value.get_secret_value()
    if url.scheme not in {"http", "https"} or not host or not text.isprintable() or " " in text:
        raise ValueError(example)
    return value


def _apprise_url(value: SecretStr) -> SecretStr:
    if not _APPRISE.fullmatch(value.get_secret_value()):
        raise ValueError('must be a URL of apprise, such as "ntfy://ntfy.sh/my-topic" or "mailto://…"')
    if find_spec("apprise") is None:
        raise ValueError(f"needs apprise, which is not installed: {EXTRA}")
    return value


def webhook_key(secret: str) -> bytes:
    """Return the bytes of a secret of Standard Webhooks, "whsec_" and base64; raise `ValueError`, which quotes none."""
    sentence = f'must be "{_PREFIX}" and the base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes'
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(sentence) from None
    if not secret.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError(sentence)
    return key


def _webhook_secret(value: SecretStr) -> SecretStr:
    webhook_key(value.get_secret_value())
    return value


def _quiet_hours(value: object) -> object:
    """Return the minutes of the day at which a text such as "22:00-07:00" begins and ends; None if it is empty."""
    if value is None or value == "" or isinstance(value, tuple):
        return value or None
    match = _QUIET.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be two times of the day, such as "22:00-07:00", or empty')
    begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if begin == end:
        raise ValueError("must not end when they begin")
    return begin, end


HttpUrl = Annotated[SecretStr, AfterValidator(_http_url)]
"""An http or https URL, which may hold a token."""

AppriseUrl = Annotated[SecretStr, AfterValidator(_apprise_url)]
"""The URL of a receiver as apprise writes it."""

WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
"""The secret that signs webhooks."""

QuietHours = Annotated[tuple[int, int] | None, BeforeValidator(_quiet_hours)]
"""The minutes of the local day at which alarms begin and cease to wait; None: never."""

AlarmName = Literal[
    "host.drained",
    "host.ending",
    "host.idle",
    "host.lost_data",
    "host.quarantined",
    "host.unwatched",
    "run.died",
    "run.diverged",
    "run.finished",
    "run.stalled",
    "disk.low",
]
"""The events that can be sent as alarms."""

DEFAULT_ALARMS: Final[tuple[AlarmName, ...]] = (
    "host.drained",
    "host.lost_data",
    "host.quarantined",
    "host.unwatched",
    "run.died",
    "run.diverged",
    "run.finished",
    "run.stalled",
    "disk.low",
)
"""Those that a person can act on."""


class Notify(SettingsTable):
    """The receivers of alarms. Without one, none is sent."""

    urls: tuple[AppriseUrl, ...] = ()
    """Receivers through apprise: mail, chat, push services."""
    webhook: HttpUrl | None = None
    """Gets each alarm as JSON by POST."""
    webhook_secret: WebhookSecret | None = None
    """Signs webhooks by the rules of Standard Webhooks. For the environment; it takes precedence over the file."""
    webhook_secret_file: OwnPath | None = None
    """Holds that secret."""
    command: tuple[Plain, ...] = ()
    """A program and its arguments, which gets each alarm as JSON on standard input."""
    events: tuple[AlarmName, ...] = DEFAULT_ALARMS
    quiet_hours: QuietHours = None
    """In these hours of the local day only what puts data at risk is sent; the rest waits until they end."""
    unwatched_after: Annotated[Duration, AfterValidator(within("1m", "7d"))] = timedelta(minutes=30)
    """A host that could not be read for this long raises `host.unwatched`."""
    heartbeat_url: HttpUrl | None = None
    """Is requested each minute while hosts are being scanned, in the manner of healthchecks.io."""
