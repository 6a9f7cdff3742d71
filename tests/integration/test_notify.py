"""Alarms of a real daemon, from a TOML file to receivers on loopback: each once, over restarts and kills."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.cli.daemon import Absent, DaemonClient
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.notify import heartbeat, observation
from harvestd.settings import load
from support.account import Account
from support.alarm_receivers import SECRET, HttpReceiver, http_receiver, mailbox
from support.command import environment, harvestd_command
from support.faults import fired
from support.house import GpuBox, Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
LATER = "2025-08-20_04-00-00"
LONG = 60.0


@pytest.fixture
def hook() -> Iterator[HttpReceiver]:
    """Provide a webhook."""
    with http_receiver() as receiver:
        yield receiver


def signed_by(hook: HttpReceiver, **others: object) -> dict[str, object]:
    """Return a [notify] with this webhook."""
    return {"webhook": f"{hook.url}/hook", "webhook_secret": SECRET, **others}


def diverged(box: GpuBox, timestamp: str = RUN.timestamp) -> RunWriter:
    """Write a run whose loss is no number any more."""
    writer = RunWriter(box.root, RunSpec(timestamp=timestamp))
    writer.start()
    writer.log_until(3)
    with writer.train_log.open("ab") as log:
        log.write(b'{"step": 5, "loss": NaN}\n')
    return writer


def connected(workstation: Workstation) -> bool:
    """Return whether the daemon watches all boxes."""
    try:
        counts = DaemonClient(load(workstation.config, env={})).state()["counts"]
    except Absent:
        return False
    return bool(counts["connected"] == len(workstation.boxes))


async def test_a_run_that_diverges_is_an_alarm_once(workstation: Workstation, hook: HttpReceiver) -> None:
    """Signed, in words, with its price and the next command; a second start of the daemon repeats nothing."""
    box = workstation.add_box()
    workstation.keys["gpu-a"] = {"cents_per_hour": 249}
    async with workstation.running(notify=signed_by(hook)):
        diverged(box)
        await until(lambda: hook.of("run.diverged"), LONG)
    async with workstation.running(notify=signed_by(hook)) as event_log:
        await until(lambda: events(event_log, "host.connected"), LONG)
        diverged(box, LATER)
        await until(lambda: len(hook.of("run.diverged")) == 2, LONG)
    first, second = hook.of("run.diverged")
    assert first.is_signed()
    assert first.key != second.key
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    data = first.document["data"]
    assert data["title"] == f"{RUN.name} has diverged"
    assert "gpu-a costs $2.49/h" in data["text"]
    assert data["command"] == f"harvestd show {RUN.name}"
    shown = harvestd_command("notify", "-c", workstation.config, "--json").document
    assert [each["event"] for each in shown["notifications"]] == ["run.diverged"] * 2
    assert {(each["receivers"], each["delivered"]) for each in shown["notifications"]} == {(1, 1)}
    page = harvestd_command("notify", "-c", workstation.config)
    assert page.code == ExitCode.OK
    assert f"{RUN.name} has diverged" in page.out
    assert "1 of 1" in page.out


async def test_a_killed_daemon_delivers_when_it_is_back(workstation: Workstation, hook: HttpReceiver) -> None:
    """Kill -9 while the receiver keeps it waiting, between the event and its delivery: it comes once, with one key."""
    box = workstation.add_box()
    workstation.settings(notify=signed_by(hook))
    hook.status = 0
    with workstation.program() as daemon:
        await until(lambda: connected(workstation), LONG)
        diverged(box)
        await until(lambda: hook.refused, LONG)
        daemon.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(daemon.wait)
    fired(59)
    hook.status = 200
    with workstation.program() as daemon:
        await until(lambda: hook.of("run.diverged"), LONG)
        await until(lambda: workstation.catalogue("SELECT 1 FROM deliveries WHERE delivered IS NOT NULL"), LONG)
        daemon.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(daemon.wait)
    with workstation.program() as daemon:
        await until(lambda: connected(workstation), LONG)
        diverged(box, LATER)
        await until(lambda: len(hook.of("run.diverged")) > 1, LONG)
        daemon.terminate()
        await anyio.to_thread.run_sync(daemon.wait)
    again, other = hook.of("run.diverged")
    assert again.headers["webhook-id"] == hook.refused[0].headers["webhook-id"]
    assert again.key == hook.refused[0].key != other.key
    workstation.audit()


@pytest.mark.parametrize("event", ["run.diverged", "run.finished"])
async def test_no_event_is_lost_whose_daemon_is_killed_at_once(
    workstation: Workstation, hook: HttpReceiver, event: str
) -> None:
    """Kill -9 as soon as the line is on the stream, before anything is spooled: the next start finds it again."""
    box = workstation.add_box()
    workstation.settings(notify=signed_by(hook, events=[event]))
    with workstation.program() as daemon:
        await until(lambda: connected(workstation), LONG)
        writer = diverged(box)
        if event == "run.finished":
            writer.finish()
        while f'"event":"{event}"' not in workstation.output_file.read_text():  # noqa: ASYNC110  (nothing may delay it)
            await anyio.sleep(0.001)
        daemon.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(daemon.wait)
    fired(59)
    with workstation.program() as daemon:
        await until(lambda: hook.of(event), LONG)
        await until(lambda: workstation.catalogue("SELECT 1 FROM deliveries WHERE delivered IS NOT NULL"), LONG)
        daemon.terminate()
        await anyio.to_thread.run_sync(daemon.wait)
    assert len({each.key for each in hook.of(event)}) == 1


async def test_receivers_that_hang_fail_or_are_gone_cost_nobody_else_anything(
    workstation: Workstation, hook: HttpReceiver, tmp_path: Path
) -> None:
    """The webhook gets its alarm, files arrive, and each failing receiver is logged once, without its secrets."""
    box = workstation.add_box()
    command = tmp_path / "hang"
    command.write_text("#!/bin/sh\nexec sleep 600\n")
    command.chmod(0o755)
    with http_receiver() as failing, http_receiver() as gone:
        failing.status = 500
        closed = gone.port
    with http_receiver(failing.port) as failing:
        failing.status = 500
        urls = [f"ntfy://ada:opensesame@127.0.0.1:{port}/mytopic" for port in (failing.port, closed)]
        notify = signed_by(hook, command=[str(command)], urls=urls)
        async with workstation.running(notify=notify) as event_log:
            writer = diverged(box)
            await until(lambda: hook.of("run.diverged"), LONG)
            failed = {"urls[0] (ntfy)", "urls[1] (ntfy)"}
            await until(lambda: {each["receiver"] for each in events(event_log, "notify.failed")} >= failed, LONG)
            writer.finish()
            await until(lambda: hook.of("run.finished"), LONG)
            await until(lambda: events(event_log, "run.finished"), LONG)
            fired(60)
            assert all(len(events(event_log, "notify.failed", receiver=each)) == 1 for each in failed)
            failing.status = 200
            await until(lambda: len(failing.got) == 2, LONG)
            assert len(events(event_log, "notify.recovered", receiver="urls[0] (ntfy)")) == 1
            assert not any("opensesame" in str(each) or "mytopic" in str(each) for each in event_log)
    assert [each.document["title"] for each in failing.got] == [f"{RUN.name} has diverged", f"{RUN.name} has finished"]
    assert not events(event_log, "service.failed")
    assert len(hook.got) == 2


async def test_receivers_that_hang_do_not_hold_the_daemon(
    workstation: Workstation, hook: HttpReceiver, tmp_path: Path
) -> None:
    """SIGTERM ends it in order within its five seconds, and a command with it."""
    box = workstation.add_box()
    command = tmp_path / "hang"
    command.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    command.chmod(0o755)
    hook.status = 0
    workstation.settings(notify=signed_by(hook, command=[str(command)], heartbeat_url=f"{hook.url}/ping"))
    with workstation.program() as daemon:
        await until(lambda: connected(workstation), LONG)
        diverged(box)
        await until(lambda: any(each.path == "/hook" for each in hook.refused), LONG)
        await until((tmp_path / "pid").exists, LONG)
        daemon.terminate()
        with anyio.fail_after(20):
            assert await anyio.to_thread.run_sync(daemon.wait) == 0
    stopped = [each for each in logged(workstation) if each["event"] == "service.stopped"]
    stopping = next(each for each in logged(workstation) if each["event"] == "service.stopping")
    assert seconds_between(stopping, stopped[0]) < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def logged(workstation: Workstation) -> list[dict[str, str]]:
    """Return what the daemon wrote."""
    return [json.loads(line) for line in workstation.output_file.read_text().splitlines()]


def seconds_between(first: dict[str, str], second: dict[str, str]) -> float:
    """Return the time between two events."""
    moments = [datetime.fromisoformat(each["timestamp"]) for each in (first, second)]
    return (moments[1] - moments[0]).total_seconds()


async def test_a_changed_file_changes_receivers_and_what_they_get(workstation: Workstation, hook: HttpReceiver) -> None:
    """Without a restart: an alarm that a mistyped URL did not take goes to the one that replaces it."""
    box = workstation.add_box()
    hook.status = 500
    async with workstation.running(notify=signed_by(hook)) as event_log:
        diverged(box)
        await until(lambda: events(event_log, "notify.failed"), LONG)
        with http_receiver() as other:
            workstation.settings(notify=signed_by(other, events=["run.diverged", "host.lost_data"]))
            await until(lambda: events(event_log, "config.reloaded"), LONG)
            await until(lambda: other.of("run.diverged"), LONG)
            assert other.got[0].is_signed()


async def test_quiet_hours_hold_what_puts_no_data_at_risk(workstation: Workstation, hook: HttpReceiver) -> None:
    """Until they end, which a changed file brings about here."""
    box = workstation.add_box()
    quiet = signed_by(hook, quiet_hours="00:00-23:59")
    async with workstation.running(notify=quiet) as event_log:
        diverged(box)
        await until(lambda: events(event_log, "run.diverged"), LONG)
        await until(lambda: workstation.catalogue("SELECT 1 FROM deliveries WHERE delivered IS NULL"), LONG)
        assert not hook.got
        workstation.settings(notify=signed_by(hook))
        await until(lambda: hook.of("run.diverged"), LONG)


async def test_a_host_that_is_gone_with_data_is_an_urgent_alarm(account: Account, hook: HttpReceiver) -> None:
    """In quiet hours, too, with what was lost."""
    server = account.rent("i-1", "gpu-a", "127.0.0.2", file_system_mounts=[])
    writer = RunWriter(account.root, RUN)
    writer.start()
    writer.log_until(3)
    directory = writer.begin_checkpoint(3)
    (directory / "huge.pt").write_bytes(os.urandom(40 * 1024 * 1024))
    writer.seal_checkpoint(3)
    sections = account.sections() | {"limits": {"bandwidth": "1MiB"}, "select": {"checkpoint": "all"}}
    notify = signed_by(hook, quiet_hours="00:00-23:59")
    async with account.workstation.running(**sections, notify=notify) as event_log:
        await until(lambda: events(event_log, "file.downloaded", kind="train_log"), LONG)
        server.kill()
        account.cloud.end("i-1")
        await until(lambda: events(event_log, "host.lost_data"), LONG)
        await until(lambda: hook.of("host.lost_data"), LONG)
    (got,) = hook.of("host.lost_data")
    assert got.document["data"]["urgent"] is True
    assert "gpu-a is gone" in got.document["data"]["title"]


async def test_a_box_that_is_not_watched_is_an_alarm_and_an_event_once(
    workstation: Workstation, hook: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sshd is stopped; the alarm says what to do. A second start does not repeat it."""
    monkeypatch.setattr(observation.ConditionReader, "_patience", lambda *_: timedelta(seconds=1))
    box = workstation.add_box()
    async with workstation.running(notify=signed_by(hook)) as event_log:
        await until(lambda: events(event_log, "host.connected"), LONG)
        box.server.kill()
        await until(lambda: hook.of("host.unwatched"), LONG)
        assert len(events(event_log, "host.unwatched", host="gpu-a")) == 1
        await until(lambda: events(event_log, "host.lost"), LONG)
    (got,) = hook.of("host.unwatched")
    assert got.document["data"]["command"] == "harvestd doctor gpu-a"
    assert got.document["data"]["urgent"] is True
    async with workstation.running(notify=signed_by(hook)) as event_log:
        await until(lambda: events(event_log, "host.lost"), LONG)
        await anyio.sleep(3)
        assert not events(event_log, "host.unwatched")
    assert len(hook.got) == 1


async def test_the_heartbeat_follows_the_scans(workstation: Workstation, hook: HttpReceiver) -> None:
    """It begins with /start; then each scan is worth a success, and a daemon without progress has failed."""
    workstation.add_box()
    beat = {"heartbeat_url": f"{hook.url}/ping/uuid"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heartbeat, "EVERY", 0.5)
        async with workstation.running(notify=beat):
            await until(lambda: len(hook.got) > 3, LONG)
        assert [each.path for each in hook.got[:3]] == ["/ping/uuid/start", "/ping/uuid", "/ping/uuid"]
        assert b"1 hosts" in hook.got[1].body
        workstation.boxes["gpu-a"].server.kill()
        patch.setattr(heartbeat, "PATIENCE", 0.5)
        hook.got.clear()
        async with workstation.running(notify=beat):
            await until(lambda: any(each.path == "/ping/uuid/fail" for each in hook.got), LONG)
    assert not any(each.path == "/ping/uuid" for each in hook.got)


def test_a_test_message_reaches_each_receiver(tmp_path: Path) -> None:
    """From a TOML file alone: a table of what each answered, and the exit code."""
    config = tmp_path / "harvestd.toml"
    start = f'version = 1\ndata_root = "{tmp_path / "data"}"\n'
    with http_receiver() as server, mailbox() as mails:
        mail = f"mailto://127.0.0.1:{mails.port}/?from=harvestd@example.org&to=ada@example.org&mode=insecure"
        urls = [f"ntfy://ada:opensesame@127.0.0.1:{server.port}/mytopic", mail]
        config.write_text(
            f'{start}[notify]\nurls = {json.dumps(urls)}\nwebhook = "{server.url}/hook"\n'
            f'webhook_secret = "{SECRET}"\ncommand = ["cat"]\nquiet_hours = "00:00-23:59"\n'
        )
        done = harvestd_command("notify", "-c", config, "--test")
        assert (done.code, done.err) == (ExitCode.OK, "")
        assert len(mails.mails) == 1
        assert {each.path for each in server.got} == {"/", "/hook"}
        assert next(each for each in server.got if each.path == "/hook").is_signed()
        for label in ("urls[0] (ntfy)", "urls[1] (mailto)", "webhook (127.0.0.1)", "command (cat)"):
            assert label in done.out
        server.status = 503
        done = harvestd_command("notify", "-c", config, "--test", "--json")
        assert done.code == ExitCode.PARTIAL
        said = {each["receiver"]: (each["ok"], each["said"]) for each in done.document["receivers"]}
        assert said["webhook (127.0.0.1)"] == (False, "503 Service Unavailable")
        assert said["command (cat)"] == (True, "exit code 0")
        assert not said["urls[0] (ntfy)"][0]
        assert not any(secret in done.out + done.err for secret in ("opensesame", "mytopic", "whsec_"))
    checked = harvestd_command("check", "-c", config)
    assert (checked.code, "notify" in checked.err) == (ExitCode.OK, False)


def test_without_receivers_it_says_what_to_set(tmp_path: Path) -> None:
    """The keys are named; a test without a receiver is no success."""
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path / "data"}"\n')
    page = harvestd_command("notify", "-c", config)
    assert page.code == ExitCode.OK
    assert "there was no alarm yet" in page.out
    tried = harvestd_command("notify", "-c", config, "--test")
    assert tried.code == ExitCode.CONFIGURATION
    for key in ("urls = ", "webhook = ", "command = "):
        assert key in page.out
        assert key in tried.err


def test_without_apprise_the_check_says_how_to_get_it(tmp_path: Path) -> None:
    """And what apprise does not understand is a warning."""
    config = tmp_path / "harvestd.toml"
    start = f'version = 1\ndata_root = "{tmp_path / "data"}"\n[notify]\n'
    config.write_text(f'{start}urls = ["nosuchthing://opensesame/x"]\n')
    warned = harvestd_command("check", "-c", config)
    assert warned.code == ExitCode.OK
    assert "notify.urls[0]: apprise does not understand this URL" in warned.err
    hidden = "import sys; sys.modules['apprise'] = None; from harvestd.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "check", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == ExitCode.CONFIGURATION
    assert "notify.urls[0]: needs apprise, which is not installed: pip install 'harvestd[notify]'" in done.stderr
    assert "opensesame" not in done.stderr + warned.err
