"""The process that sends one message through apprise: `python -m harvestd.notify.apprise_process`.

It reads a JSON document from standard input, with the URL, which is therefore in no list of processes, and writes one
to standard output: `ok`, `said` and `hint`. What apprise logs may quote the URL: its parts are hidden.
"""

import json
import logging
import os
import re
import sys
from typing import Any, Final

from harvestd.settings.notify import EXTRA
from harvestd.telemetry.sanitize import HIDDEN

_NICENESS: Final = 10
_SHORTEST: Final = 4
"""Characters of a part of a URL that may be a secret."""


class _Kept(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())


def hidden(text: str, url: str) -> str:
    """Return `text` without the parts of a URL, of which any may be a secret."""
    parts = sorted(set(re.split(r"[/:@?&=#,;%+]+", url.partition("://")[2])), key=len, reverse=True)
    for part in parts:
        if len(part) >= _SHORTEST:
            text = text.replace(part, HIDDEN)
    return text


def answered(request: dict[str, Any]) -> dict[str, object]:
    """Send one message, or with `check` only try the URL; return the answer."""
    try:
        import apprise  # noqa: PLC0415  (it may not be installed)
    except ImportError:
        return {"ok": False, "said": "apprise is not installed", "hint": EXTRA}
    url, kept = request["url"], _Kept()
    logger = logging.getLogger("apprise")
    logger.addHandler(kept)
    logger.propagate = False
    receivers = apprise.Apprise()
    if not receivers.add(url):
        return {"ok": False, "said": "apprise does not understand this URL", "hint": "check notify.urls"}
    if request.get("check"):
        return {"ok": True, "said": "", "hint": ""}
    kind = apprise.NotifyType.WARNING if request.get("urgent") else apprise.NotifyType.INFO
    sent = receivers.notify(
        title=request["title"], body=request["body"], body_format=apprise.NotifyFormat.TEXT, notify_type=kind
    )
    if sent:
        return {"ok": True, "said": "sent", "hint": ""}
    said = hidden("; ".join(kept.lines), url) or "apprise could not send it"
    return {"ok": False, "said": said, "hint": ""}


def main() -> int:
    """Answer the request on standard input."""
    os.nice(_NICENESS)
    answer = answered(json.load(sys.stdin))
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
