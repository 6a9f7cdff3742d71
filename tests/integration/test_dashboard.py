"""The dashboard that comes with harvestd: each metric that it names is one of a running daemon."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.alarm_receivers import http_receiver
from support.house import Workstation
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

DASHBOARD = Path(__file__).parents[2] / "config" / "grafana-dashboard.json"
RUN = RunSpec()
LONG = 60.0


def promtool() -> str:
    """Return Prometheus's program; CI has it, elsewhere the test is skipped without it."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: install prometheus")
        pytest.skip("needs promtool, of Debian's package prometheus")
    return found


def expressions(value: Any) -> Iterator[str]:  # noqa: ANN401  (JSON may be anything)
    """Yield each query of a dashboard."""
    if isinstance(value, dict):
        yield from (each for key in ("expr", "query") if isinstance(each := value.get(key), str))
        for each in value.values():
            yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)


def asked(port: int) -> str:
    """Return /metrics of the running daemon; nothing while there is none."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    except httpx.HTTPError:
        return ""


def names_in(text: str) -> set[str]:
    """Return the names of all metrics and series."""
    return {match[1] for match in re.finditer(r"^(?:# TYPE )?(harvestd_\w+)", text, re.MULTILINE)}


def labels_of(text: str, name: str) -> list[dict[str, str]]:
    """Return the labels of each series of a metric."""
    families = text_string_to_metric_families(text)
    return [sample.labels for family in families for sample in family.samples if sample.name == name]


async def test_each_metric_that_the_dashboard_names_exists(workstation: Workstation) -> None:
    """With a box that is idle and has a price, a run that goes on, and a receiver of alarms."""
    box = workstation.add_box()
    workstation.keys["gpu-a"] = {"cents_per_hour": 249}
    dashboard = json.loads(DASHBOARD.read_text())
    named = {name for each in expressions(dashboard) for name in re.findall(r"harvestd_\w+", each)}
    assert len(named) > 20
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    with http_receiver() as hook:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        workstation.settings(notify={"webhook": f"{hook.url}/hook"}, api={"listen": f"127.0.0.1:{port}"})
        with workstation.program():
            await until(lambda: labels_of(asked(port), "harvestd_run_step"), LONG)
            await until(lambda: labels_of(asked(port), "harvestd_notifications_waiting"), LONG)
            text = asked(port)
    assert named <= names_in(text), named - names_in(text)
    assert labels_of(text, "harvestd_run_step") == [{"host": "gpu-a", "run": RUN.name}]
    assert labels_of(text, "harvestd_host_cost_dollars_per_hour") == [{"host": "gpu-a"}]
    assert labels_of(text, "harvestd_notifications_waiting") == [{"receiver": "webhook (127.0.0.1)"}]
    assert 'harvestd_host_cost_dollars_per_hour{host="gpu-a"} 2.49' in text
    checked = await anyio.run_process([promtool(), "check", "metrics"], input=text.encode(), check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_panels_have_names_queries_and_places_of_their_own() -> None:
    """Grafana shows them as they are meant."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
