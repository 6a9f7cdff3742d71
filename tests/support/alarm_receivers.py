"""Receivers of alarms on loopback: an HTTP server that takes, refuses or never answers, and a mail server."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  (the example of the rules of Standard Webhooks)


@dataclass
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401  (JSON may be anything)
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """The key of the notification."""
        return str(self.document["data"]["key"])

    def is_signed(self, secret: str = SECRET) -> bool:
        """Return whether the signature is right, checked as a receiver would."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass
class HttpReceiver:
    """A server; a test changes `status`."""

    port: int = 0
    status: int = 200
    """What is answered; 0: nothing, until the server ends."""
    got: list[Got] = field(default_factory=list)
    """The requests that were answered with success."""
    refused: list[Got] = field(default_factory=list)
    """All others."""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def of(self, kind: str) -> list[Got]:
        """Return the requests with messages of one type."""
        return [each for each in self.got if each.document.get("type") == kind]


@contextmanager
def http_receiver(port: int = 0) -> Iterator[HttpReceiver]:
    """Provide a server on loopback for the body."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            status = receiver.status
            if not status:
                receiver.refused.append(got)
                receiver.ended.wait()
                return
            (receiver.got if status < 300 else receiver.refused).append(got)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"id": "x", "event": "message"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its base class names it so)
            """Write nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that were killed."""

    server = Server(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mailbox:
    """A mail server that takes everything."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802  (its name)
        """Keep a mail."""
        content = envelope.content or b""
        self.mails.append(message_from_bytes(content if isinstance(content, bytes) else content.encode()))
        return "250 kept"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Provide a mail server on loopback for the body."""
    box = Mailbox()
    # Its class connects to the port that it was asked for, so that it can't be left to the kernel.
    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
