"""One request to the cloud's API: list the instances, or terminate one of them.

The key is sent to the configured address only (no redirect is followed), and neither it nor any unchecked text of an
answer appears in an error or an event. An answer is bounded in size and in time. A termination request holds one
instance id only, and its outcome is never guessed: without a clear answer it is reported as unclear.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.inventory.host import Mount
from harvestd.settings import LambdaCloud
from harvestd.settings.access import api_key

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 4 * 1024 * 1024
"""Of one answer."""
MOST_INSTANCES = 1_000
"""In one answer."""
_ENDING = frozenset({"terminating", "terminated", "preempted"})
"""States of an instance that will not return."""


class Instance(Immutable):
    """One instance, with the details of one or several answers."""

    id: str
    name: str | None = None
    address: str | None = None
    status: str | None = None
    instance_type: str | None = None
    gpus: int | None = None
    experiment: str | None = None
    region: str | None = None
    cents_per_hour: int | None = None
    mounts: tuple[Mount, ...] | None = None
    hostname: str | None = None
    can_end: bool | None = None
    """Whether the cloud would terminate it now."""

    @property
    def is_ending(self) -> bool:
        """Whether its state means that it will not return."""
        return self.status in _ENDING


class InstanceList(Immutable):
    """All instances that exist, according to one answer."""

    instances: tuple[Instance, ...]
    whole: bool
    """Whether every entry could be parsed, so that a missing instance may be gone."""


DEADLINE = 30.0
"""Seconds for a whole request: connecting, sending, and the complete answer."""
_HINTS = {
    401: "check the API key: lambda_cloud.api_key_file, or LAMBDA_API_KEY",
    403: "is the account active, and may the key read its instances?",
    404: "check lambda_cloud.base_url",
}
_SLOW = "the network or the cloud is slow; it is asked again"
_OK = 200
_REFUSALS = range(300, 500)
"""Statuses by which nothing was done: no redirect is followed."""
_INSTANCES = "the cloud's list of instances can't be had"
_TERMINATE = "instance-operations/terminate"


class Unanswered(Retry):
    """The cloud gave no usable answer; `wait`: do not send a request before."""

    def __init__(self, message: str, *, hint: str = "", wait: timedelta = timedelta()) -> None:
        super().__init__(f"{_INSTANCES}: {message}", hint=hint)
        self.wait = wait


class _Silent(Exception):
    """No complete answer arrived; the text gives the reason and quotes nothing of it."""

    def __init__(self, message: str, *, hint: str = "", sent: bool = True) -> None:
        super().__init__(message)
        self.hint = hint
        self.sent = sent
        """Whether the request may have arrived."""


class TerminationState(StrEnum):
    """The outcome of a termination request."""

    TERMINATED = "terminated"
    """The cloud confirms the termination."""
    REFUSED = "refused"
    """The cloud reports that it did nothing; or nothing was sent."""
    UNCLEAR = "unclear"
    """The instance may have been terminated; never treat this as REFUSED."""


class Outcome(Immutable):
    """The cloud's answer."""

    ending: TerminationState
    detail: str = ""
    """Why it was not terminated, or why that is not known."""
    wait: timedelta = timedelta()
    """Do not send a request before."""


class _Reply(Immutable):
    status: int
    wait: timedelta
    body: bytes


def client_of(settings: LambdaCloud) -> "httpx.AsyncClient":
    """Return a client for some requests; the caller closes it."""
    # Imported only where a cloud is used.
    import httpx  # noqa: PLC0415

    # Not compressed: the size of an answer has to be known before it is unpacked. No proxy sees a key for this machine.
    return httpx.AsyncClient(
        headers={"accept": "application/json", "accept-encoding": "identity"},
        timeout=DEADLINE,
        trust_env=not is_local(settings.base_url),
    )


async def instances_of(
    client: "httpx.AsyncClient", settings: LambdaCloud, env: Mapping[str, str] | None = None
) -> InstanceList:
    """Request the list of instances; raise `Retry`. `env` replaces the environment, which may hold the key."""
    from harvestd.inventory.lambda_parse import InvalidAnswer, answer_of  # noqa: PLC0415  (imported only for requests)

    try:
        reply = await _sent(client, settings, env, "GET", "instances")
    except _Silent as e:
        raise Unanswered(str(e), hint=e.hint) from None
    if reply.status != _OK:
        raise Unanswered(_refusal(reply), hint=_HINTS.get(reply.status, ""), wait=reply.wait)
    try:
        return await anyio.to_thread.run_sync(answer_of, reply.body)
    except InvalidAnswer as e:
        raise Unanswered(str(e), hint="check lambda_cloud.base_url") from None


async def terminate(
    client: "httpx.AsyncClient", settings: LambdaCloud, identifier: str, env: Mapping[str, str] | None = None
) -> Outcome:
    """Request the termination of this one instance, for good. Raise `NoKey` where no request can be sent."""
    from harvestd.inventory.lambda_parse import terminated_of  # noqa: PLC0415  (imported only for requests)

    body = json.dumps({"instance_ids": [identifier]}).encode()
    try:
        reply = await _sent(client, settings, env, "POST", _TERMINATE, body)
    except _Silent as e:
        return Outcome(TerminationState.UNCLEAR if e.sent else TerminationState.REFUSED, str(e))
    if reply.status != _OK:
        # A server that failed may have done it before.
        ending = TerminationState.REFUSED if reply.status in _REFUSALS else TerminationState.UNCLEAR
        return Outcome(ending, _refusal(reply), reply.wait)
    if identifier in await anyio.to_thread.run_sync(terminated_of, reply.body):
        return Outcome(TerminationState.TERMINATED)
    return Outcome(TerminationState.UNCLEAR, "its answer does not name the instance")


def is_local(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def _refusal(reply: _Reply) -> str:
    from harvestd.inventory.lambda_parse import error_code_of  # noqa: PLC0415  (see above)

    code = error_code_of(reply.body)
    return f"status {reply.status}{f' ({code})' if code else ''}"


async def _sent(
    client: "httpx.AsyncClient",
    settings: LambdaCloud,
    env: Mapping[str, str] | None,
    method: str,
    path: str,
    body: bytes | None = None,
) -> _Reply:
    """Send one request; raise `NoKey`, and `_Silent` where no complete answer arrives."""
    key = await anyio.to_thread.run_sync(api_key, settings, env)
    headers = {"authorization": f"Bearer {key.get_secret_value()}"}
    if body is not None:
        headers["content-type"] = "application/json"
    try:
        with anyio.fail_after(DEADLINE):
            return await _exchanged(client, f"{settings.base_url}/{path}", method, headers, body)
    except TimeoutError:
        raise _Silent(f"no whole answer within {DEADLINE:g} s", hint=_SLOW) from None


async def _exchanged(
    client: "httpx.AsyncClient", url: str, method: str, headers: Mapping[str, str], sent: bytes | None
) -> _Reply:
    import httpx  # noqa: PLC0415  (see above)

    try:
        async with client.stream(method, url, headers=headers, content=sent) as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise _Silent("it is compressed, unasked")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise _Silent(f"it is longer than {MOST_BYTES} bytes")
            return _Reply(answer.status_code, _asked_pause(answer.headers.get("retry-after", "")), bytes(body))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        hint = "is there a network, and is lambda_cloud.base_url right?"
        raise _Silent("no connection", hint=hint, sent=False) from None
    except httpx.TimeoutException:
        raise _Silent("it answers too slowly", hint=_SLOW) from None
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise _Silent(f"the connection broke ({type(e).__name__})") from None


def _asked_pause(header: str) -> timedelta:
    """Return the pause of Retry-After; its form with a date counts as none."""
    return timedelta(seconds=int(header)) if header.isascii() and header.isdigit() and len(header) < 7 else timedelta()  # noqa: PLR2004
