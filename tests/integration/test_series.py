"""The curves of a run over HTTP: a real daemon, a real host, and a log that grows, is resumed or is replaced."""

import json
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import httpx
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.settings import load
from harvestd.store.sockets import short_path, socket_path
from support.house import Workstation
from support.waiting import until

LONG = 60.0
RUN = RunSpec()
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def asked(workstation: Workstation, target: str, **query: str) -> httpx.Response:
    """Return the answer of the daemon's socket."""
    with (
        short_path(socket_path(load(workstation.config, env={}))) as path,
        httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client,
    ):
        return client.get(f"http://harvestd{target}", params=query, timeout=LONG)


def run_id(workstation: Workstation) -> str:
    """Return the id of the only run, or nothing while there is none or no daemon answers."""
    if not socket_path(load(workstation.config, env={})).exists():
        return ""
    runs = asked(workstation, "/v1/runs").json().get("runs", [])
    return str(runs[0]["id"]) if runs else ""


def curves(workstation: Workstation, run: str, **query: str) -> dict[str, Any]:
    """Return the document of a run's curves."""
    answer = asked(workstation, f"/v1/runs/{run}/series", **query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def until_there(workstation: Workstation, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the document of the only run's curves once it is as asked for."""
    found: dict[str, Any] = {}

    def look() -> bool:
        run = run_id(workstation)
        if run:
            found.update(curves(workstation, run))
        return bool(found) and is_there(found)

    await until(look, LONG)
    return found


async def test_a_log_that_grows_moves_its_curves(workstation: Workstation) -> None:
    """A cursor returns only what is new; the answer after a restart goes on from there."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(20)
    workstation.settings()
    with workstation.program() as daemon:
        first = await until_there(workstation, lambda found: found["step"] == 20)
        assert (first["rows"], first["complete"], first["keys"][0]) == (20, True, "loss")
        assert first["curves"]["loss"]["step"] == list(range(1, 21))
        gap = [pair for pair in first["curves"]["logr_std"]["nonfinite"] if pair[1] == 1]
        assert [first["curves"]["logr_std"]["last"][step - 1] for step, _ in gap] == [None] * len(gap) != []
        writer.log_until(25)
        grown = await until_there(workstation, lambda found: found["step"] == 25)
        new = curves(workstation, grown["run"], **{"from": first["cursor"], "keys": "loss,kl"})
        assert set(new["curves"]) == {"loss", "kl"}
        assert [curve["step"] for curve in new["curves"].values()] == [[21, 22, 23, 24, 25]] * 2
        assert {curve["replaces_from"] for curve in new["curves"].values()} == {21}
        few = curves(workstation, grown["run"], points="5", x="time")
        assert len(few["curves"]["loss"]["step"]) <= 5
        assert few["curves"]["loss"].keys() >= {"time", "min", "max", "mean", "count"}
        daemon.terminate()
        await anyio.to_thread.run_sync(daemon.wait)
    (saved,) = (workstation.state / "series").iterdir()
    assert saved.stat().st_size > 1000
    with workstation.program():
        again = await until_there(workstation, lambda found: found["step"] == 25)
        assert (
            curves(workstation, again["run"], **{"from": new["cursor"], "keys": "loss,kl"})["curves"]["loss"]["step"]
            == []
        )
        # A log that was replaced on the host starts anew here, and so do its curves.
        writer.train_log.write_text(json.dumps({"step": 1, "loss": 7.5}) + "\n")
        anew = await until_there(workstation, lambda found: found["step"] == 1)
        assert (anew["keys"], anew["curves"]["loss"]["last"]) == (["loss"], [7.5])


async def test_questions_that_can_t_be_answered_are_refused(workstation: Workstation) -> None:
    """An unknown run is 404; a parameter that can't be used is 400, and the answer names it."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    workstation.settings()
    with workstation.program():
        found = await until_there(workstation, lambda found: "keys" in found)
        # A run without a log has a document without curves.
        assert (found["keys"], found["curves"], found["complete"]) == ([], {}, True)
        target = f"/v1/runs/{found['run']}/series"
        assert asked(workstation, "/v1/runs/none/series").status_code == 404
        for name, value in (
            ("points", "0"),
            ("points", "2001"),
            ("points", "x"),
            ("x", "steps"),
            ("from", "é"),
            ("keys", "a," * 100),
            ("other", "1"),
        ):
            answer = asked(workstation, target, **{name: value})
            assert (answer.status_code, name in answer.json()["error"] or name == "other") == (400, True)
