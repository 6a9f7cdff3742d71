"""A port that neither accepts nor refuses connections, like that of a host which is gone."""

import socket
from contextlib import AbstractContextManager, ExitStack
from typing import Self

_SOON = 0.2
"""Seconds within which loopback answers, where it does."""
_MOST = 16


class Silence(AbstractContextManager["Silence"]):
    """Holds a port whose queue of connections is full, so that the kernel drops what else comes."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.port = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            self.port = listening.getsockname()[1]
            for _ in range(_MOST):
                client = stack.enter_context(socket.socket())
                client.settimeout(_SOON)
                try:
                    client.connect(("127.0.0.1", self.port))
                except TimeoutError:
                    break
            else:
                raise RuntimeError("this kernel takes connections beyond a full queue")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
