"""The cloud's API on loopback, as published, with secrets in each answer, and every way to fail.

It lists instances and terminates them.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from support.planted import Planted

PATH = "/api/v1/instances"
TERMINATE = "/api/v1/instance-operations/terminate"
_MOST_SENT = 65_536


@dataclass(frozen=True)
class Reply:
    """What goes over the wire."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """What Content-Length says, if not the truth."""
    hangs_up: bool = False
    """Whether the connection ends instead."""
    waits: bool = False
    """Whether it is held back until the test is over."""


class Cloud:
    """An account; a test changes `instances`, and says with `fails` what is answered instead of them."""

    def __init__(self, planted: Planted) -> None:
        self.key = planted.new("the cloud's key", "secret_harvest_{}")
        self.token = planted.new("a jupyter token")
        self.instances: list[dict[str, object]] = []
        self.url = ""
        self.fails: str | None = None
        """The name of a failure of `FAILURES`, or None."""
        self.retry_after = "0"
        """Seconds that a 429 asks for."""
        self.fails_to_end: str | None = None
        """The name of a failure of `FAILURES_TO_END`, or None."""
        self.ends_slowly = False
        """Whether an instance that was terminated stays in the list as it was."""
        self.terminated: list[list[str]] = []
        """The ids of each request to terminate that was well formed and had the key, whatever was answered."""
        self.on_end: Callable[[str], None] = _nothing
        """Called with the id of each instance that ends."""
        self.served: Counter[str] = Counter()
        """How often each failure, "good" and "refused" (a wrong key) were really sent."""
        self.ended = threading.Event()

    def add(self, identifier: str, name: str, ip: str, **others: object) -> dict[str, object]:
        """Rent an instance; `others` are fields of the API."""
        made: dict[str, object] = {
            "id": identifier,
            "name": name,
            "ip": ip,
            "status": "active",
            "ssh_key_names": ["k"],
            "file_system_names": [],
            "region": {"name": "us-west-1", "description": "California, USA"},
            "instance_type": {
                "name": "gpu_8x_h100_sxm5",
                "price_cents_per_hour": 249,
                "specs": {"gpus": 8, "memory_gib": 200},
            },
            "jupyter_token": self.token,
            "jupyter_url": f"https://jupyter.example/?token={self.token}",
            "actions": {"terminate": {"available": True}},
        } | others
        self.instances.append(made)
        return made

    def end(self, identifier: str) -> None:
        """Terminate an instance."""
        self.instances = [each for each in self.instances if each["id"] != identifier]

    def good(self) -> Reply:
        """Return the whole truth."""
        return Reply(json.dumps({"data": self.instances}).encode())

    def reply(self, authorization: str) -> tuple[str, Reply]:
        """Return what is answered now, and what it is called."""
        if authorization != f"Bearer {self.key}":
            return "refused", _refused(authorization)
        fails = self.fails
        return (fails, FAILURES[fails](self)) if fails else ("good", self.good())

    def termination(self, authorization: str, body: bytes) -> tuple[str, Reply]:
        """Terminate what a request names, and give what is answered and what that is called."""
        if authorization != f"Bearer {self.key}":
            return "refused", _refused(authorization)
        asked = json.loads(body)["instance_ids"]
        self.terminated.append(asked)
        fails = self.fails_to_end
        if fails is None or fails in DONE_ALL_THE_SAME:
            for identifier in asked:
                self._terminate(identifier)
        if fails is not None:
            return f"ending: {fails}", FAILURES_TO_END[fails](self)
        ended = [each for each in self.instances if each["id"] in asked]
        return "ended", Reply(json.dumps({"data": {"terminated_instances": ended}}).encode())

    def _terminate(self, identifier: str) -> None:
        for each in self.instances:
            if each["id"] == identifier:
                each["status"] = each["status"] if self.ends_slowly else "terminating"
                self.on_end(identifier)


def _nothing(_: str) -> None:
    """Leave it."""


def _broken(cloud: Cloud) -> Reply:
    error = {"error": {"code": "global/internal", "message": f"{cloud.key} \x1b[2J {cloud.token}"}}
    return Reply(json.dumps(error).encode(), 500)


def _refused(authorization: str) -> Reply:
    error = {"error": {"code": "global/invalid-api-key", "message": f"no such key: {authorization}"}}
    return Reply(json.dumps(error).encode(), 401)


def _instance_less(cloud: Cloud, **changed: object) -> Reply:
    return Reply(json.dumps({"data": [each | changed for each in cloud.instances]}).encode())


FAILURES: Mapping[str, Callable[[Cloud], Reply]] = {
    "429": lambda cloud: Reply(b"slow down", 429, {"Retry-After": cloud.retry_after}),
    "500": _broken,
    "502 as a page": lambda cloud: Reply(f"<html>{cloud.token}</html>".encode(), 502),
    "a redirect": lambda cloud: Reply(b"", 302, {"Location": f"{cloud.url}/instances"}),
    "no answer": lambda _: Reply(b"", waits=True),
    "an answer without end": lambda cloud: Reply(cloud.good().body, length=1 << 20, waits=True),
    "a cut answer": lambda cloud: Reply(cloud.good().body, length=1 << 20),
    "torn JSON": lambda cloud: Reply(cloud.good().body[:-40]),
    "a page for JSON": lambda cloud: Reply(f"<html>{cloud.token}</html>".encode()),
    "a wrong type": lambda cloud: Reply(json.dumps({"data": {"0": cloud.instances}}).encode()),
    "wrong types within": lambda cloud: Reply(json.dumps({"data": [cloud.token, 3, None]}).encode()),
    "no data": lambda cloud: Reply(json.dumps({"date": cloud.instances}).encode()),
    "ids that are none": lambda cloud: _instance_less(cloud, id="../\x1b[31m"),
    "one id for all": lambda cloud: _instance_less(cloud, id="0" * 32),
    "nested": lambda _: Reply(b'{"data":' + b"[" * 200_000),
    "too many": lambda _: Reply(json.dumps({"data": [{"id": f"{n:032x}"} for n in range(1_001)]}).encode()),
    "too long": lambda _: Reply(b'{"data":[' + b" " * (5 << 20) + b"]}"),
    "compressed": lambda _: Reply(b"\x1f\x8b\x08" + bytes(40), headers={"Content-Encoding": "gzip"}),
    "an empty list": lambda _: Reply(b'{"data":[]}'),
}
"""Every way to give no answer, or one that is not to be believed."""


FAILURES_TO_END: Mapping[str, Callable[[Cloud], Reply]] = {
    "429": FAILURES["429"],
    "404": lambda cloud: Reply(
        json.dumps({"error": {"code": "global/object-does-not-exist", "message": cloud.token}}).encode(), 404
    ),
    "a redirect": lambda cloud: Reply(b"", 307, {"Location": f"{cloud.url}/instance-operations/terminate"}),
    "500": _broken,
    "500 after it was done": _broken,
    "no answer after it was done": lambda _: Reply(b"", hangs_up=True),
    "a cut answer": lambda cloud: Reply(cloud.good().body, length=1 << 20),
    "torn JSON": lambda _: Reply(b'{"data":{"terminated_instances":[{"id":'),
    "nobody ended": lambda _: Reply(b'{"data":{"terminated_instances":[]}}'),
    "another ended": lambda _: Reply(json.dumps({"data": {"terminated_instances": [{"id": "f" * 32}]}}).encode()),
    "too long": lambda _: Reply(b'{"data":[' + b" " * (5 << 20) + b"]}"),
}
"""Every way not to say that an instance ends."""
DONE_ALL_THE_SAME = frozenset({"500 after it was done", "no answer after it was done", "a cut answer"})


class _Handler(BaseHTTPRequestHandler):
    cloud: ClassVar[Cloud]

    def do_GET(self) -> None:
        if self.path != PATH:
            self.cloud.served["another path"] += 1
            return
        self._answer(*self.cloud.reply(self.headers.get("Authorization", "")))

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", "0")), _MOST_SENT))
        if self.path != TERMINATE:
            self.cloud.served["another path"] += 1
            return
        self._answer(*self.cloud.termination(self.headers.get("Authorization", ""), body))

    def _answer(self, name: str, reply: Reply) -> None:
        self.cloud.served[name] += 1
        if reply.hangs_up:
            self.close_connection = True
            return
        if reply.waits and reply.length is None:
            self.cloud.ended.wait()
            return
        self.send_response(reply.status)
        for header, value in reply.headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.end_headers()
        try:
            self.wfile.write(reply.body)
            self.wfile.flush()
        except OSError:  # who asks for no more than it takes hangs up
            self.close_connection = True
        if reply.waits:
            self.cloud.ended.wait()
        if reply.length is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    protocol_version = "HTTP/1.1"


@contextmanager
def cloud_api(planted: Planted) -> Iterator[Cloud]:
    """Run the API of an account without instances for the body."""
    account = Cloud(planted)

    class Handler(_Handler):
        cloud = account

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore clients that hang up in the middle."""

    server = Server(("127.0.0.1", 0), Handler)
    account.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield account
    finally:
        account.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
