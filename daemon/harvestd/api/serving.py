"""Serve the API inside the daemon's own event loop: no signals, no logging and no loop of its own.

A request never ends the daemon; an address that can't be bound is reported at the start, where it is `Fatal`.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from uvicorn import Config
from uvicorn.server import ServerState

from harvestd.api.application import application
from harvestd.api.connection import MOST, Access, Connection, LoopbackAccess, Page, UnixSocketAccess
from harvestd.api.state import Source
from harvestd.errors import ExitCode, Fatal
from harvestd.settings.sections import Api
from harvestd.settings.types import address_and_port
from harvestd.store.sockets import listening, socket_path
from harvestd.telemetry.event_buffer import RECENT

_LARGEST_HEAD: Final = 16 * 1024
_LAST_MESSAGES: Final = 1.0
"""Seconds for answers in progress at the end."""
_MOST_TOKEN: Final = 4_096
_SHORTEST_TOKEN: Final = 16
_HEADERS: Final = [
    (b"connection", b"close"),
    (b"x-content-type-options", b"nosniff"),
]


@asynccontextmanager
async def served(source: Source, page: Page | None = None) -> AsyncIterator[None]:
    """Serve `source` and its page during the body. Raise `Fatal` where a configured address can't be bound."""
    settings = source.context.settings
    # Invalid requests are the client's fault; uvicorn would log each of them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = Config(
        application(source, page),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=MOST,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
    )
    config.load()
    RECENT.remembers = True
    async with AsyncExitStack() as stack:
        if settings.api.socket:
            listener = stack.enter_context(listening(socket_path(settings)))
            await stack.enter_async_context(_answered(listener, UnixSocketAccess(), config))
        if settings.api.listen:
            access = LoopbackAccess(await anyio.to_thread.run_sync(_token, settings.api.token_file), page)
            listener = stack.enter_context(_bound(settings.api))
            await stack.enter_async_context(_answered(listener, access, config))
        stack.callback(source.stopping.set)
        yield


@asynccontextmanager
async def _answered(listener: socket.socket, access: Access, config: Config) -> AsyncIterator[None]:
    """Accept connections during the body, and wait a moment for them to finish afterwards.

    Each socket counts its own connections: a full loopback socket does not block the Unix socket.
    """
    state = ServerState()
    state.default_headers = list(_HEADERS)
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        return Connection(config=config, server_state=state, app_state={"access": access})

    if listener.family == socket.AF_UNIX:
        server = await loop.create_unix_server(connection, sock=listener)
    else:
        server = await loop.create_server(connection, sock=listener)
    try:
        yield
    finally:
        server.close()
        await _ended(state)


async def _ended(state: ServerState) -> None:
    """Wait a moment for answers in progress to finish; then drop all connections."""
    with anyio.move_on_after(_LAST_MESSAGES, shield=True):
        while state.tasks:  # noqa: ASYNC110  (uvicorn has no event for the end of its tasks)
            await anyio.sleep(0.01)
    for each in list(state.connections):
        each.shutdown()
    with anyio.move_on_after(_LAST_MESSAGES, shield=True):
        while state.tasks:  # noqa: ASYNC110  (the same)
            await anyio.sleep(0.01)


def _bound(api: Api) -> socket.socket:
    address, port = address_and_port(api.listen)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port or 0))
        listener.listen(MOST)
        listener.setblocking(False)  # noqa: FBT003  (its only argument)
    except OSError as error:
        listener.close()
        raise Fatal(
            f"can't listen at {api.listen}: {error.strerror}",
            hint="another program may do so: choose another port in api.listen",
            exit_code=ExitCode.CONFIGURATION,
        ) from error
    return listener


def _token(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            token = opened.read(_MOST_TOKEN).strip()
    except OSError as error:
        raise Fatal(
            f"the file of the token, {file}, can't be read: {error.strerror}",
            hint="check api.token_file",
            exit_code=ExitCode.CONFIGURATION,
        ) from error
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise Fatal(
            f"what stands in {file} is no token",
            hint=f"it is one word of {_SHORTEST_TOKEN} characters or more",
            exit_code=ExitCode.CONFIGURATION,
        )
    return token
