"""The receivers of alarms: a webhook, a command, and URLs of apprise. Each attempt has a deadline and answers in words.

An attempt never raises for what a receiver does. What it answers is bounded, and no address or secret is in the words.
apprise blocks, and loads hundreds of modules: it runs in a process of its own, which gets the URL on standard input.
"""

import base64
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process
from pydantic import SecretStr

from harvestd.convention.structs import Immutable
from harvestd.json_text import json_text
from harvestd.notify.messages import Message
from harvestd.settings import Notify
from harvestd.settings.access import VARIABLES
from harvestd.settings.notify import webhook_key
from harvestd.telemetry.sanitize import escaped, masked

ATTEMPT: Final = 30.0
"""Seconds for one attempt."""
_MOST_BYTES: Final = 4_096
"""Of an answer; the rest is not read."""
_LONGEST: Final = 200
"""Characters of an answer that are repeated."""
_APPRISE: Final = (sys.executable, "-P", "-m", "harvestd.notify.apprise_process")
_SECRETS: Final = ("HARVESTD_", *VARIABLES)
"""Beginnings of variables that no command gets."""
_LAST_WORDS: Final = 0.5
"""Seconds to read what a process wrote before it ended."""


class Answer(Immutable):
    """What became of one attempt."""

    ok: bool
    said: str
    """For people: short, escaped, without secrets."""
    hint: str = ""
    wait: float = 0.0
    """Seconds that the receiver asks for before the next attempt."""


class Receiver(Protocol):
    """One receiver."""

    @property
    def id(self) -> str:
        """Its kind and a hash of its address: the same over restarts, and no secret."""
        ...

    @property
    def label(self) -> str:
        """Its name for people, without secrets."""
        ...

    async def send(self, message: Message) -> Answer:
        """Send a message. Has no deadline of its own: see `attempt`."""
        ...


def receivers_of(settings: Notify) -> list[Receiver]:
    """Return the configured receivers; equal settings give equal receivers."""
    found: list[Receiver] = [AppriseUrl(url, index) for index, url in enumerate(dict.fromkeys(settings.urls))]
    if settings.webhook is not None:
        found.append(Webhook(settings.webhook, settings.webhook_secret, settings.webhook_secret_file))
    if settings.command:
        found.append(Command(settings.command))
    return found


async def attempt(receiver: Receiver, message: Message, seconds: float = ATTEMPT) -> Answer:
    """Send a message within `seconds`."""
    with anyio.move_on_after(seconds):
        return await receiver.send(message)
    return Answer(ok=False, said=f"no answer within {seconds:g} s", hint="it is tried again")


@dataclass(frozen=True)
class Webhook:
    """A URL that gets JSON by POST, signed by the rules of Standard Webhooks where there is a secret."""

    url: SecretStr
    secret: SecretStr | None = None
    secret_file: Path | None = None

    @property
    def id(self) -> str:
        """Its kind and a hash."""
        return f"webhook:{_hashed(self.url.get_secret_value())}"

    @property
    def label(self) -> str:
        """The key of the settings, and the name of the server."""
        return f"webhook ({urlsplit(self.url.get_secret_value()).hostname})"

    async def send(self, message: Message) -> Answer:
        """Post the message."""
        body = json_text(message.document()).encode()
        try:
            key = await anyio.to_thread.run_sync(self._key)
        except (OSError, ValueError) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e)
            hint = f"mend {self.secret_file}"
            return Answer(ok=False, said=f"the secret can't be read: {reason}", hint=hint)
        headers = {"content-type": "application/json", **signed(message.key, int(time.time()), body, key)}
        return await requested(self.url, headers, body)

    def _key(self) -> bytes | None:
        if self.secret is not None:
            return webhook_key(self.secret.get_secret_value())
        if self.secret_file is None:
            return None
        with self.secret_file.open("rb") as file:
            return webhook_key(file.read(_MOST_BYTES).decode("ascii", "replace").strip())


def signed(key_of_message: str, timestamp: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """Return the headers of Standard Webhooks; without a key there is no signature.

    The id is the same for each attempt with the same message, so that a receiver can ignore a repetition.
    """
    identifier = f"msg_{_hashed(key_of_message, 32)}"
    headers = {"webhook-id": identifier, "webhook-timestamp": str(timestamp)}
    if key is not None:
        headers["webhook-signature"] = signature(identifier, timestamp, body, key)
    return headers


def signature(identifier: str, timestamp: int, body: bytes, key: bytes) -> str:
    """Return the signature of Standard Webhooks, version 1."""
    content = f"{identifier}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}"


async def requested(url: SecretStr, headers: Mapping[str, str], body: bytes) -> Answer:
    """Post `body` to a URL; no redirect is followed. Any 2xx is success."""
    # The import, and reading the certificates of this machine, hold the event loop for too long.
    await anyio.to_thread.run_sync(import_module, "httpx")
    import httpx  # noqa: PLC0415  (imported just now)

    address = url.get_secret_value()
    is_local = urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}
    made = await anyio.to_thread.run_sync(partial(httpx.AsyncClient, timeout=ATTEMPT, trust_env=not is_local))
    try:
        async with (
            made as client,
            client.stream("POST", address, headers=dict(headers), content=body) as answer,
        ):
            said = f"{answer.status_code} {answer.reason_phrase}".strip()
            return Answer(answer.is_success, _short(said), wait=_pause(answer.headers.get("retry-after", "")))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Answer(ok=False, said="no connection", hint="is there a network, and does the server run?")
    except httpx.TimeoutException:
        return Answer(ok=False, said="it answers too slowly")
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        return Answer(ok=False, said=f"the connection broke ({type(e).__name__})")


def _pause(header: str) -> float:
    return float(header) if header.isascii() and header.isdigit() and len(header) < 7 else 0.0  # noqa: PLR2004


@dataclass(frozen=True)
class Command:
    """A program that gets a message as JSON on standard input."""

    words: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its kind and a hash."""
        return f"command:{_hashed(json.dumps(self.words))}"

    @property
    def label(self) -> str:
        """The key of the settings, and the program."""
        return f"command ({escaped(Path(self.words[0]).name)})"

    async def send(self, message: Message) -> Answer:
        """Run the program; it has taken the message if it exits with 0."""
        code, _, err = await _run(self.words, json_text(message.document()).encode() + b"\n")
        if code is None:
            return Answer(ok=False, said=err, hint="check notify.command")
        return Answer(code == 0, _short(f"exit code {code}{f': {err}' if err else ''}"))


@dataclass(frozen=True)
class AppriseUrl:
    """A receiver that apprise reaches."""

    url: SecretStr
    index: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        """Its kind and a hash."""
        return f"url:{_hashed(self.url.get_secret_value())}"

    @property
    def label(self) -> str:
        """The key of the settings, and the kind of receiver: all else may be secret."""
        return f"urls[{self.index}] ({self.url.get_secret_value().partition('://')[0].lower()})"

    async def send(self, message: Message) -> Answer:
        """Send the message through apprise."""
        return await _through_apprise(
            {
                "url": self.url.get_secret_value(),
                "title": message.title,
                "body": message.text,
                "urgent": message.urgent,
            }
        )


async def problem_with(url: SecretStr) -> str:
    """Return why apprise can't use a URL; empty if it can. Nothing is sent."""
    with anyio.move_on_after(ATTEMPT):
        answer = await _through_apprise({"url": url.get_secret_value(), "check": True})
        return "" if answer.ok else answer.said
    return f"apprise did not answer within {ATTEMPT:g} s"


async def _through_apprise(request: Mapping[str, object]) -> Answer:
    code, out, _ = await _run(_APPRISE, json.dumps(request).encode())
    try:
        answer = json.loads(out)
        return Answer(bool(answer["ok"]), _short(str(answer["said"])), str(answer["hint"]))
    except (ValueError, KeyError, TypeError):
        return Answer(ok=False, said=f"apprise ended with exit code {code}, without an answer")


async def _run(words: Sequence[str], content: bytes) -> tuple[int | None, bytes, str]:
    """Run a program in a session of its own; kill it with its children when cancelled.

    Return its exit code (None: it could not be started), the beginning of its output, and that of its errors or why it
    could not be started.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    try:
        process = await anyio.open_process(words, start_new_session=True, env=env)
    except OSError as e:
        return None, b"", f"it can't be started: {e.strerror or type(e).__name__}"
    try:
        return await _spoken_with(process, content)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _spoken_with(process: Process, content: bytes) -> tuple[int, bytes, str]:
    out, err = bytearray(), bytearray()
    async with anyio.create_task_group() as tasks:
        if process.stdout is not None and process.stderr is not None:
            tasks.start_soon(_keep_first, process.stdout, out)
            tasks.start_soon(_keep_first, process.stderr, err)
        if process.stdin is not None:
            # A program need not read what it gets.
            with suppress(anyio.BrokenResourceError, ConnectionError):
                await process.stdin.send(content)
                await process.stdin.aclose()
        code = await process.wait()
        # A child that goes on may keep the output open.
        tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
    return code, bytes(out), _short(err.decode("utf-8", "replace").strip())


async def _keep_first(stream: ByteReceiveStream, kept: bytearray) -> None:
    """Read to the end, and keep the beginning."""
    async for piece in stream:
        kept += piece[: _MOST_BYTES - len(kept)]


def _short(text: str) -> str:
    return escaped(masked(text))[:_LONGEST]


def _hashed(text: str, digits: int = 12) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
