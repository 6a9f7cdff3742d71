"""The page over plain HTTP, without a browser: the login, what is refused, and what each answer carries."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.serve import free_port
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from support.command import harvestd_command, running_command
from support.house import Workstation
from support.waiting import until

LONG = 60.0
RUN = RunSpec()
HERE = {"sec-fetch-site": "same-origin"}
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@contextmanager
def browser(address: str) -> Iterator[httpx.Client]:
    """Yield a client that keeps cookies and does not follow redirects."""
    with httpx.Client(base_url=address, trust_env=False, timeout=LONG) as client:
        yield client


def logged_in(client: httpx.Client, workstation: Workstation) -> str:
    """Log a client in as a browser is; return the code, which is used up."""
    code = harvestd_command("-c", workstation.config, "open", "--print").out.strip().rpartition("#")[2]
    answer = client.post("/login", data={"code": code}, headers=HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return code


@contextmanager
def served(workstation: Workstation, **api: object) -> Iterator[str]:
    """Run the daemon with its page for the body; yield its address."""
    port = free_port()
    workstation.settings(api={"listen": f"127.0.0.1:{port}", **api})
    with workstation.program():
        yield f"http://127.0.0.1:{port}"


async def started(workstation: Workstation) -> None:
    """Wait until the daemon gives a code."""
    await until(lambda: harvestd_command("-c", workstation.config, "open", "--print").code == ExitCode.OK, LONG)


async def test_a_code_logs_one_browser_in_once(workstation: Workstation) -> None:
    """Without a session each view leads to the login; a code works once; the cookie is for this site alone."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    with served(workstation) as address, browser(address) as client, browser(address) as other:
        await started(workstation)
        for path in ("/", "/events", "/hosts/gpu-a"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert client.get("/", headers={**HERE, "sec-fetch-mode": "cors"}).status_code == 401
        code = logged_in(client, workstation)
        (cookie,) = client.cookies.jar
        assert cookie.name == f"harvestd_{address.rpartition(':')[2]}"
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "Strict"
        refused = other.post("/login", data={"code": code}, headers=HERE)
        assert (refused.status_code, "already" in refused.text) == (403, True)
        for path in ("/", "/events", "/hosts/gpu-a"):
            answer = client.get(path, headers={"sec-fetch-site": "none"})
            assert (answer.status_code, "gpu-a" in answer.text) == (200, True)
        assert client.get("/hosts/gpu-z").status_code == 404
        assert client.get("/nothing").status_code == 404


async def test_other_sites_get_nothing(workstation: Workstation) -> None:
    """A name of another site, its requests, and a form that it sends are refused, with a session as without one."""
    workstation.add_box()
    with served(workstation) as address, browser(address) as client:
        await started(workstation)
        logged_in(client, workstation)
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        for site in ("cross-site", "same-site"):
            assert client.get("/", headers={"sec-fetch-site": site}).status_code == 403
        for headers in ({}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "cross-site"}):
            assert client.post("/pause", headers=headers).status_code == 403
        assert client.get("/v1/state").json()["daemon"]["paused"] is False
        assert client.post("/v1/pause", headers=HERE).status_code == 403
        assert client.post("/v1/login", headers=HERE).status_code == 403
        answer = client.post("/pause", data={"back": "//evil.example/"}, headers=HERE)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get("/v1/state").json()["daemon"]["paused"] is True
        assert "is paused" in client.get("/").text


async def test_each_answer_carries_the_rules(workstation: Workstation) -> None:
    """Strict content policy on views, files, refusals and errors; files are kept for good, views never."""
    workstation.add_box()
    with served(workstation) as address, browser(address) as client:
        await started(workstation)
        logged_in(client, workstation)
        view = client.get("/")
        file = re.search(r'href="(/static/[0-9a-f]+/tokens\.css)"', view.text)
        assert file is not None
        stylesheet = client.get(file[1])
        refused = client.get("/", headers={"sec-fetch-site": "cross-site"})
        for answer in (view, stylesheet, refused, client.get("/nothing"), client.get("/login")):
            assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert view.headers["cache-control"] == "no-store"
        assert "immutable" in stylesheet.headers["cache-control"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", view.text)


async def test_a_view_that_did_not_change_is_not_sent_again(workstation: Workstation) -> None:
    """What the script requests is the main element alone, with a tag that answers 304."""
    workstation.add_box()
    part = {**HERE, "x-harvestd-part": "1", "sec-fetch-mode": "cors"}
    with served(workstation) as address, browser(address) as client:
        await started(workstation)
        logged_in(client, workstation)
        assert client.get("/hosts/gpu-z", headers=part).status_code == 404

        def settled() -> bool:
            first = client.get("/events?event=host.gone", headers=part)
            again = client.get("/events?event=host.gone", headers={**part, "if-none-match": first.headers["etag"]})
            assert first.text.startswith("<title>")
            assert "<html" not in first.text
            return (first.status_code, again.status_code, again.text) == (200, 304, "")

        await until(settled, LONG)


async def test_a_session_reads_the_api_that_needs_a_token(workstation: Workstation) -> None:
    """With a token file the page's own requests may read the API, and others need the token still."""
    token = workstation.config.with_name("token")
    token.write_text("a-token-of-enough-characters")
    with served(workstation, token_file=str(token)) as address, browser(address) as client:
        await started(workstation)
        assert client.get("/v1/state").status_code == 401
        logged_in(client, workstation)
        assert client.get("/v1/state", headers=HERE).status_code == 200
        assert client.get("/v1/state", headers={"sec-fetch-site": "cross-site"}).status_code == 401
        assert client.post("/v1/pause", headers=HERE).status_code == 401


async def test_open_names_what_is_missing(workstation: Workstation) -> None:
    """Without an address, and without a daemon, `harvestd open` says what to do."""
    workstation.settings()
    asked = harvestd_command("-c", workstation.config, "open")
    assert (asked.code, "[api] listen is not set" in asked.err) == (ExitCode.CONFIGURATION, True)
    workstation.settings(api={"listen": f"127.0.0.1:{free_port()}"})
    asked = harvestd_command("-c", workstation.config, "open")
    assert (asked.code, "no daemon" in asked.err) == (ExitCode.LOCKED, True)


async def test_the_demo_shows_its_page_until_it_is_interrupted(tmp_path: Path) -> None:
    """`harvestd demo --serve` prints an address that logs in; Ctrl-C ends it with 0."""
    output = tmp_path / "output"
    with running_command("demo", "--serve", output=output) as demo:
        await until(lambda: "#" in output.read_text(), LONG)
        url = next(word for word in output.read_text().split() if "/login#" in word)
        address, _, code = url.partition("/login#")
        with browser(address) as client:
            assert client.post("/login", data={"code": code}, headers=HERE).status_code == 303
            await until(lambda: "gpu-d" in client.get("/").text, LONG)
        demo.send_signal(signal.SIGINT)
        assert await anyio.to_thread.run_sync(demo.wait) == 0
