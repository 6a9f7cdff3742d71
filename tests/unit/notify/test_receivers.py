"""Each kind of receiver on loopback: a webhook that checks its signature, a command, a mail server, a push service."""

import stat
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from harvestd.notify.apprise_process import hidden
from harvestd.notify.messages import trial
from harvestd.notify.receivers import (
    AppriseUrl,
    Command,
    Webhook,
    attempt,
    problem_with,
    receivers_of,
    signature,
    signed,
)
from harvestd.settings import Notify
from harvestd.settings.notify import webhook_key
from support.alarm_receivers import SECRET, http_receiver, mailbox
from support.waiting import until

pytestmark = pytest.mark.anyio
MESSAGE = trial(1_700_000_000.0)


def script(path: Path, text: str) -> str:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_signature_is_that_of_the_published_example() -> None:
    """As the rules of Standard Webhooks compute it; the id of a message is the same at each attempt."""
    key = webhook_key(SECRET)
    found = signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', key)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    first, second = signed("run.died:é/run_1@3:1", 1, b"x", key), signed("run.died:é/run_1@3:1", 2, b"x", key)
    assert first["webhook-id"] == second["webhook-id"]
    assert "." not in first["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]
    assert "webhook-signature" not in signed("k", 1, b"", None)


async def test_a_webhook_is_signed_and_says_what_it_answers(tmp_path: Path) -> None:
    """With the secret of the settings or of the file, or without any; each answer but 2xx is a failure."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    with http_receiver() as server:
        url = SecretStr(f"{server.url}/hook?token=abc")
        for receiver in (Webhook(url, SecretStr(SECRET)), Webhook(url, secret_file=file)):
            answer = await attempt(receiver, MESSAGE)
            assert (answer.ok, answer.said) == (True, "200 OK")
        assert all(each.is_signed() for each in server.got)
        assert {each.document["type"] for each in server.got} == {"test"}
        assert len({each.headers["webhook-id"] for each in server.got}) == 1
        assert server.got[0].path == "/hook?token=abc"
        server.status = 500
        answer = await attempt(Webhook(url), MESSAGE)
        assert (answer.ok, answer.said) == (False, "500 Internal Server Error")
        server.status = 302
        assert not (await attempt(Webhook(url), MESSAGE)).ok
        server.status = 0
        began = time.monotonic()
        answer = await attempt(Webhook(url), MESSAGE, 0.3)
        assert (answer.ok, answer.said) == (False, "no answer within 0.3 s")
        assert time.monotonic() - began < 5
    answer = await attempt(Webhook(url), MESSAGE)
    assert (answer.ok, answer.said) == (False, "no connection")
    assert "abc" not in Webhook(url).label
    answer = await attempt(Webhook(url, secret_file=tmp_path / "none"), MESSAGE)
    assert (answer.ok, "secret can't be read" in answer.said) == (False, True)


async def test_a_command_gets_json_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard input; its exit code is the answer, with what it wrote to standard error."""
    monkeypatch.setenv("HARVESTD_NOTIFY__WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("LAMBDA_API_KEY", "secret_0123456789abcdef")
    took = script(tmp_path / "take", f"cat > {tmp_path}/got; env > {tmp_path}/env")
    answer = await attempt(Command((took, "--now")), MESSAGE)
    assert (answer.ok, answer.said) == (True, "exit code 0")
    assert '"type":"test"' in (tmp_path / "got").read_text()
    assert "whsec_" not in (tmp_path / "env").read_text()
    assert "LAMBDA" not in (tmp_path / "env").read_text()
    refused = script(tmp_path / "refuse", "echo no pager >&2; exit 4")
    answer = await attempt(Command((refused,)), MESSAGE)
    assert (answer.ok, answer.said) == (False, "exit code 4: no pager")
    answer = await attempt(Command((str(tmp_path / "none"),)), MESSAGE)
    assert (answer.ok, answer.said) == (False, "it can't be started: No such file or directory")


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """At the deadline; and one that leaves a child behind with its output open is not waited for."""
    hangs = script(tmp_path / "hang", f"sleep 600 & echo $! > {tmp_path}/child; wait")
    answer = await attempt(Command((hangs,)), MESSAGE, 1.0)
    assert not answer.ok
    child = int((tmp_path / "child").read_text())

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    await until(is_gone, 10)
    leaves = script(tmp_path / "leave", "sleep 600 & exit 0")
    began = time.monotonic()
    assert (await attempt(Command((leaves,)), MESSAGE, 20)).ok
    assert time.monotonic() - began < 10
    endless = script(tmp_path / "endless", "exec cat /dev/zero >&2")
    assert not (await attempt(Command((endless,)), MESSAGE, 1.0)).ok


async def test_apprise_reaches_mail_and_push_services() -> None:
    """A real mail server and an HTTP server in the place of ntfy's; a refusal is told without the URL's parts."""
    with mailbox() as mails:
        url = SecretStr(f"mailto://127.0.0.1:{mails.port}/?from=harvestd@example.org&to=ada@example.org&mode=insecure")
        answer = await attempt(AppriseUrl(url), MESSAGE)
        assert answer.ok, answer.said
        (mail,) = mails.mails
    assert "harvestd: a test" in str(mail["subject"])
    assert "alarms of harvestd" in str(mail)
    with http_receiver() as server:
        url = SecretStr(f"ntfy://ada:opensesame@127.0.0.1:{server.port}/mytopic")
        assert (await attempt(AppriseUrl(url), MESSAGE)).ok
        assert server.got[0].document["title"] == "harvestd: a test"
        server.status = 500
        answer = await attempt(AppriseUrl(url), MESSAGE)
        assert not answer.ok
        assert "500" in answer.said
        assert not any(secret in answer.said for secret in ("opensesame", "mytopic"))
    assert AppriseUrl(url).label == "urls[0] (ntfy)"


async def test_a_url_that_apprise_does_not_know_is_a_problem() -> None:
    """It is named by `harvestd check`, before the first alarm."""
    assert not await problem_with(SecretStr("ntfy://ntfy.sh/topic"))
    assert await problem_with(SecretStr("nosuchthing://x/y")) == "apprise does not understand this URL"


def test_no_part_of_a_url_is_repeated() -> None:
    """Tokens are in any part of a URL."""
    said = hidden("POST to 123456:ABC-DEF1234 failed with 401", "tgram://123456:ABC-DEF1234/7890123/")
    assert said == "POST to [hidden]:[hidden] failed with 401"


def test_receivers_keep_their_names_and_show_no_secret() -> None:
    """The id is the same in each process; equal settings give equal receivers."""
    settings = Notify.model_validate(
        {
            "urls": ["ntfy://ada:opensesame@ntfy.sh/mytopic", "ntfy://ada:opensesame@ntfy.sh/mytopic"],
            "webhook": "https://hooks.example.org/T000/B000/XXXXYYYY",
            "command": ["/usr/local/bin/alarm", "--now"],
        }
    )
    receivers = receivers_of(settings)
    assert receivers == receivers_of(settings)
    assert [each.label for each in receivers] == ["urls[0] (ntfy)", "webhook (hooks.example.org)", "command (alarm)"]
    shown = " ".join(f"{each!r} {each.id} {each.label}" for each in receivers) + repr(settings)
    assert not any(secret in shown for secret in ("opensesame", "mytopic", "XXXXYYYY"))
    assert [each.id.partition(":")[0] for each in receivers] == ["url", "webhook", "command"]
