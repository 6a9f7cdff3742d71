"""What a running daemon tells over HTTP, and what it takes: a real daemon, a real box, raw requests."""

import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from harvestd.api.connection import MOST
from harvestd.cli.daemon import Absent, DaemonClient
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import EvalWriter, RunWriter
from harvestd.errors import ExitCode
from harvestd.safety.verdict import Verdict, VerdictAnswer, document_now
from harvestd.settings import load
from harvestd.store.sockets import short_path, socket_path
from support.command import harvestd_command
from support.house import Workstation
from support.waiting import until

LONG = 60.0
RUN = RunSpec()
CONFIG = Path(__file__).parents[2] / "config"
PROMISED = {
    "harvestd_host_up",
    "harvestd_host_last_success_timestamp_seconds",
    "harvestd_transferred_bytes_total",
    "harvestd_transfer_failures_total",
    "harvestd_host_failures_total",
    "harvestd_pending_bytes",
    "harvestd_poll_duration_seconds_bucket",
    "harvestd_safe_to_terminate",
    "harvestd_verdict_timestamp_seconds",
    "harvestd_disk_free_bytes",
    "harvestd_runs",
    "harvestd_host_info",
}
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def promtool() -> str:
    """Return the program, which is Prometheus's own; CI has it, elsewhere a test without it is skipped."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: install prometheus")
        pytest.skip("needs promtool, of Debian's package prometheus")
    return found


def _client(workstation: Workstation) -> DaemonClient:
    return DaemonClient(load(workstation.config, env={}))


@contextmanager
def _raw(workstation: Workstation) -> Iterator[socket.socket]:
    with (
        short_path(socket_path(load(workstation.config, env={}))) as path,
        closing(socket.socket(socket.AF_UNIX)) as one,
    ):
        one.settimeout(LONG)
        one.connect(path)
        yield one


def _asked(workstation: Workstation, request: bytes, seconds: float = LONG) -> bytes:
    """Send a request as it is and give all that comes back; nothing where the daemon only hangs up or waits."""
    with _raw(workstation) as one:
        answer = b""
        one.settimeout(seconds)
        try:
            one.sendall(request)
            while piece := one.recv(65536):
                answer += piece
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        return answer


def _last_of(one: socket.socket) -> bytes:
    """Return what comes when the daemon hangs up."""
    try:
        return one.recv(100)
    except ConnectionResetError:
        return b""


def _get(workstation: Workstation, path: str) -> tuple[int, bytes]:
    answer = _asked(workstation, f"GET {path} HTTP/1.1\r\nHost: harvestd\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _answers(workstation: Workstation) -> bool:
    try:
        return bool(_client(workstation).state()["counts"]["connected"] == len(workstation.boxes))
    except Absent:
        return False


async def _started(workstation: Workstation) -> None:
    await until(lambda: _answers(workstation), LONG)


async def test_the_state_document_says_how_hosts_and_runs_stand(workstation: Workstation) -> None:
    """Hosts, runs, counts and the daemon itself stand in one document; without a daemon the client says so."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    workstation.settings()
    with pytest.raises(Absent):
        _client(workstation).state()
    with workstation.program() as daemon:
        await _started(workstation)
        await until(lambda: _client(workstation).state()["counts"]["files"], LONG)
        await until(lambda: _client(workstation).state()["hosts"][0]["last_success"], LONG)
        document = _client(workstation).state()
        (host,), (run,) = document["hosts"], document["runs"]
        assert (document["version"], document["daemon"]["pid"]) == (1, daemon.pid)
        assert (host["name"], host["state"], host["moved_bytes"] > 0) == ("gpu-a", "connected", True)
        verdict = host["verdict"]
        # One form of a verdict, as in `--json`, and beside it the names that this document had first.
        assert verdict.keys() >= document_now(Verdict(VerdictAnswer.SAFE), 0.0, watched=True).keys()
        assert (verdict["answer"], verdict["safe"], verdict["is_safe"], verdict["fresh"]) == (
            "not_safe",
            False,
            False,
            True,
        )
        assert verdict["bytes_outstanding"] == verdict["outstanding_bytes"]
        assert all(each.keys() == {"kind", "detail", "bytes", "seconds"} for each in verdict["reasons"])
        assert (run["name"], run["finished"], run["total_steps"]) == (RUN.name, False, RUN.total_steps)
        daemon.terminate()
        with anyio.fail_after(LONG):
            assert await anyio.to_thread.run_sync(daemon.wait) == 0
    assert not socket_path(load(workstation.config, env={})).exists()
    assert not [line for line in workstation.output_file.read_text().splitlines() if '"level":"error"' in line]


async def test_hosts_and_runs_have_one_form_over_http_and_as_json(workstation: Workstation) -> None:
    """The lists over HTTP are those of `--json`; the state document has the same keys."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    workstation.settings()
    with workstation.program():
        await _started(workstation)
        await until(lambda: _client(workstation).state()["counts"]["files"], LONG)
        # A pause keeps what is compared from changing in between.
        _client(workstation).command("pause")
        state = _client(workstation).state()
        for kind in ("hosts", "runs"):
            status, body = _get(workstation, f"/v1/{kind}")
            over_http = json.loads(body)[kind]
            asked = harvestd_command("-c", workstation.config, kind, "--json").document[kind]
            assert status == 200
            assert [_steady(each) for each in over_http] == [_steady(each) for each in asked]
            assert state[kind][0].keys() >= asked[0].keys()
        assert state["hosts"][0]["identity"] == json.loads(_get(workstation, "/v1/hosts")[1])["hosts"][0]["identity"]
        assert state["hosts"][0]["method"] == "probe"
        assert state["hosts"][0]["first_seen"] is not None
        assert json.loads(_get(workstation, "/v1/runs?limit=0")[1]) == {"runs": []}
        for wrong in ("limit=x", "limit=10001", "limit=-1", "most=1"):
            assert _get(workstation, f"/v1/runs?{wrong}")[0] == 400


def _steady(document: dict[str, object]) -> dict[str, object]:
    """Return what does not change from one second to the next."""
    return {key: value for key, value in document.items() if key not in {"last_success", "verdict", "judged"}}


async def test_pause_keeps_everything_on_the_box_until_resume(workstation: Workstation) -> None:
    """A paused daemon looks and fetches nothing, says so, and goes on when it is told to."""
    box = workstation.add_box()
    workstation.settings()
    with workstation.program():
        await _started(workstation)
        assert harvestd_command("-c", workstation.config, "pause", "--json").document == {"done": "pause"}
        RunWriter(box.root, RUN).start()
        await until(lambda: _client(workstation).state()["hosts"][0]["pending_bytes"], LONG)
        state = _client(workstation).state()
        assert (state["daemon"]["paused"], state["counts"]["files"]) == (True, 0)
        assert "paused" in harvestd_command("-c", workstation.config, "status").out
        assert harvestd_command("-c", workstation.config, "resume").code == ExitCode.OK
        await until(lambda: _client(workstation).state()["counts"]["files"], LONG)
        assert harvestd_command("-c", workstation.config, "scan").code == ExitCode.OK
    for command in ("pause", "resume", "scan"):
        without = harvestd_command("-c", workstation.config, command)
        assert (without.code, "no daemon answers" in without.err) == (ExitCode.LOCKED, True)


async def test_events_come_filtered_escaped_and_from_where_one_left_off(workstation: Workstation) -> None:
    """The newest events are told again by number, filters hold, and a hostile name comes out written out."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    evals = EvalWriter(box.root / "eval_runs", "evil\x1b[2J\u202e", RUN.eval_backbone, EvalSpec(RUN, questions=1))
    evals.evaluate(0)
    workstation.settings()
    with workstation.program():
        await _started(workstation)
        client = _client(workstation)
        await until(lambda: list(client.events(event="eval.discovered")), LONG)
        everything = list(client.events())
        numbers = [event["id"] for event in everything]
        assert numbers == sorted(set(numbers))
        assert {event["event"] for event in client.events(event="eval.*", host="gpu-a")} >= {"eval.discovered"}
        assert not list(client.events(host="gpu-b"))
        assert all(event["id"] > numbers[2] for event in client.events(since=numbers[2]))
        forgotten, *_ = client.events(since=1)
        assert (forgotten["event"], forgotten["id"], forgotten["level"]) == ("events.cut", None, "warning")
        assert forgotten["timestamp"] > everything[0]["timestamp"]
        _, body = _get(workstation, "/v1/events?follow=0")
        assert b"evil\\\\x1b[2J\\\\u202e" in body
        assert b"\x1b" not in body + _get(workstation, "/v1/state")[1] + _get(workstation, "/metrics")[1]
        with closing(client.events(follow=True, since=everything[-1]["id"], event="config.reloaded")) as following:  # type: ignore[type-var]  # a generator
            client.command("reload")
            with anyio.fail_after(LONG):
                found = await anyio.to_thread.run_sync(next, following)
        assert found["event"] == "config.reloaded"


async def test_nothing_that_is_sent_ends_in_a_500(workstation: Workstation) -> None:
    """Raw bytes, wrong methods, huge heads, bad texts: refused or hung up on, and the daemon goes on as before."""
    workstation.settings()
    chance = random.Random(7)  # noqa: S311  (not for secrets: the same requests each time)
    whole = b"GET /v1/state HTTP/1.1\r\nHost: a\r\n\r\n"
    requests = [
        b"",
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /v1/events?since=\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%ff%00%80/../.. HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: [\r\n\r\n",
        b"BREW /v1/state HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /v1/state HTTP/1.1\r\n\r\n",
        b"POST /v1/scan HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/scan HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/scan HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000,
        b"GET /v1/events?follow=0 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: \xe9\r\n\r\n",
        b"GET /v1/state HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        whole * 50,
        whole[:-2] + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        whole + b"\xff" * 1000,
    ]
    queries = [
        "since=-1",
        "since=",
        "since=9" + "9" * 30,
        "level=x",
        "follow=2",
        "a=b",
        "host=%ff%00",
        "event=[",
        "&&=%",
    ]
    requests += [f"GET /v1/events?follow=0&{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for query in queries]
    for _ in range(150):
        torn = bytearray(whole if chance.random() < 0.5 else chance.choice(requests)[:500] or b"?")
        for _ in range(chance.randint(1, 6)):
            torn[chance.randrange(len(torn))] = chance.randrange(256)
        requests.append(bytes(torn).replace(b"follow=1", b"follow=0"))
    with workstation.program() as daemon:
        await _started(workstation)
        for request in requests:
            answer = await anyio.to_thread.run_sync(_asked, workstation, request, 0.3)
            assert not answer.startswith(b"HTTP/1.1 5"), request
        assert _get(workstation, "/healthz")[0] == _get(workstation, "/readyz")[0] == 200
        assert (_get(workstation, "/nowhere")[0], _get(workstation, "/v1/scan")[0]) == (404, 405)
        assert daemon.poll() is None
        assert '"level":"error"' not in workstation.output_file.read_text()


async def test_slow_senders_are_hung_up_on_and_do_not_stand_in_the_way(workstation: Workstation) -> None:
    """Connections that send nothing, or a head byte by byte, end by a deadline; others are answered once they have."""
    workstation.settings()
    with workstation.program():
        await _started(workstation)
        with _raw(workstation) as idle, _raw(workstation) as slow:
            slow.sendall(b"GET /v1/state HTTP/1.1\r\nHost: ")
            assert _get(workstation, "/healthz")[0] == 200
            for one in (idle, slow):
                assert await anyio.to_thread.run_sync(_last_of, one) == b""


async def test_only_the_own_user_opens_the_socket(workstation: Workstation) -> None:
    """The socket is 0600 whatever the umask; another user who gets hold of it all the same is hung up on."""
    workstation.settings()
    path = socket_path(load(workstation.config, env={}))
    with workstation.program():
        await _started(workstation)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if os.geteuid() != 0:
            pytest.skip("becoming another user needs root")
        path.chmod(0o666)
        asking = (
            "import socket,os,sys\n"
            "d=os.open(sys.argv[1],os.O_PATH)\nos.setgroups([]);os.setgid(65534);os.setuid(65534)\n"
            "s=socket.socket(socket.AF_UNIX)\n"
            "try:\n s.connect(f'/proc/self/fd/{d}/api.sock')\n"
            " s.sendall(b'GET /v1/state HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n print(len(s.recv(10)))\n"
            "except OSError: print('refused')\n"
        )
        command = [sys.executable, "-I", "-c", asking, str(path.parent)]
        path.parent.chmod(0o755)
        found = await anyio.run_process(command)
        assert found.stdout.decode().strip() in {"0", "refused"}


async def test_on_loopback_one_reads_under_our_name_and_commands_with_the_token(
    workstation: Workstation, tmp_path: Path
) -> None:
    """Without a token only GETs, with one only who shows it; a page that calls itself by another name gets nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    workstation.settings(api={"listen": f"127.0.0.1:{port}"})
    async with httpx.AsyncClient(trust_env=False, timeout=LONG) as client:
        with workstation.program():
            await _started(workstation)
            answer = await client.get(f"{place}/v1/state", headers={"Origin": "http://evil.example"})
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (200, False)
            assert (await client.post(f"{place}/v1/scan")).status_code == 403
            for name in ("evil.example", "127.0.0.1.evil.example", "localhost@evil", ""):
                assert (await client.get(f"{place}/v1/state", headers={"Host": name})).status_code == 421
        token = tmp_path / "token"
        token.write_text("0123456789abcdef-secret\n")
        workstation.settings(api={"listen": f"127.0.0.1:{port}", "token_file": str(token)})
        with workstation.program():
            await _started(workstation)
            wrong = {b"Authorization": "Bearer é".encode()}
            shown = {"Authorization": "Bearer 0123456789abcdef-secret"}
            assert (await client.get(f"{place}/v1/state")).status_code == 401
            assert (await client.get(f"{place}/v1/state", headers=wrong)).status_code == 401
            assert (await client.post(f"{place}/v1/scan", headers=shown)).status_code == 202
            assert "0123456789abcdef" not in workstation.output_file.read_text()


async def test_who_fills_the_door_on_loopback_keeps_nobody_from_the_socket(workstation: Workstation) -> None:
    """Any user may hold connections on loopback; the next one there is turned away, the daemon's own user is not."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    workstation.settings(api={"listen": f"127.0.0.1:{port}"})
    with workstation.program(), ExitStack() as held:
        await _started(workstation)
        received = b""
        for _ in range(MOST + 1):
            one = held.enter_context(closing(socket.create_connection(("127.0.0.1", port), LONG)))
            one.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            received = await anyio.to_thread.run_sync(one.recv, 100)
        assert b" 503 " in received
        assert _get(workstation, "/healthz")[0] == 200


async def test_a_reader_that_takes_nothing_is_cut_off_and_holds_nobody_back(workstation: Workstation) -> None:
    """While one follows the events without reading, others are answered, and the daemon stops in time."""
    workstation.settings()
    with workstation.program() as daemon:
        await _started(workstation)
        with _raw(workstation) as sleeper:
            sleeper.sendall(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in range(20):
                _client(workstation).command("reload")
            assert _get(workstation, "/healthz")[0] == 200
            daemon.terminate()
            with anyio.fail_after(LONG):
                assert await anyio.to_thread.run_sync(daemon.wait) == 0


async def test_metrics_pass_promtool_and_bear_every_name_that_the_rules_use(workstation: Workstation) -> None:
    """A real /metrics has no fault that promtool knows, all promised names, and all that the alert rules ask for."""
    workstation.add_box()
    workstation.settings()
    with workstation.program():
        await _started(workstation)
        await until(lambda: _client(workstation).state()["hosts"][0]["last_success"], LONG)
        await until(lambda: b"safe_to_terminate{" in _get(workstation, "/metrics")[1], LONG)
        text = _get(workstation, "/metrics")[1]
    series = {sample.name for family in text_string_to_metric_families(text.decode()) for sample in family.samples}
    assert series >= PROMISED
    rules = yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"harvestd_\w+", rule["expr"])}
    assert len(used) > 8
    assert used <= series
    checked = await anyio.run_process([promtool(), "check", "metrics"], input=text, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_alert_rules_fire_when_they_should() -> None:
    """Promtool finds the rules in order, and each fires for its fault and for nothing else."""
    subprocess.run([promtool(), "check", "rules", str(CONFIG / "alerts.yml")], check=True, capture_output=True)
    scenario = Path(__file__).parents[1] / "data" / "alerts.yml"
    subprocess.run([promtool(), "test", "rules", str(scenario)], check=True, capture_output=True)
    asked = {rule["alert"] for rule in yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"][0]["rules"]}
    assert all(name in scenario.read_text() for name in asked)
