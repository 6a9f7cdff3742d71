"""The views of experiments over plain HTTP: what is served of the data root, what is refused, and what is bounded."""

from pathlib import Path

import httpx
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.serve import free_port
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.page.experiments.one import MOST_FILES
from support.command import Ended, harvestd_command
from support.house import Workstation
from support.waiting import until

LONG = 60.0
RUN = RunSpec(total_steps=4, save_every=2)
OTHER = RunSpec("2025-08-21_10-00-00", total_steps=4)
HERE = {"sec-fetch-site": "same-origin"}
PNG = b"\x89PNG\r\n\x1a\n and more"
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_experiments_are_served_within_bounds(workstation: Workstation) -> None:
    """A table, one experiment with its first files, and pictures of `analysis/` alone; the rest is refused."""
    box = workstation.add_box()
    for spec in (RUN, OTHER):
        writer = RunWriter(box.root, spec)
        writer.start()
        writer.log_until(4)
        writer.finish()
    many = box.root / "training_runs" / RUN.name / "notes"
    many.mkdir()
    for number in range(MOST_FILES + 30):
        (many / f"note_{number:03}.txt").write_text("a note")
    address = f"http://127.0.0.1:{free_port()}"
    workstation.settings(api={"listen": address.removeprefix("http://")}, select={"include": ["notes/*"]})
    with workstation.program(), httpx.Client(base_url=address, trust_env=False, timeout=LONG, headers=HERE) as client:
        await until(lambda: _opened(workstation).code == ExitCode.OK, LONG)
        await until(lambda: _files(workstation) > MOST_FILES + 30, LONG)
        await until(workstation.stands(OTHER.name, "training_state"), LONG)
        identifier, directory = _experiment(workstation)
        analysis = workstation.data / directory / "analysis"
        await until(analysis.is_dir, LONG)
        code = _opened(workstation).out.strip().rpartition("#")[2]
        _log_in(client, code)
        _check_table(client)
        _check_one(client, identifier, _files(workstation))
        _check_pictures(client, identifier, analysis)


def _log_in(client: httpx.Client, code: str) -> None:
    assert client.post("/login", data={"code": code}).status_code == 303


def _check_table(client: httpx.Client) -> None:
    listed = client.get("/experiments")
    assert (listed.status_code, listed.text.count('<tr role="row" id="x-')) == (200, 2)
    assert client.get("/experiments?sort=-nothing").status_code == 400
    assert "Without the name" in client.get("/experiments?q=zzz").text
    compared = client.get("/compare", params={"id": [RUN.name, OTHER.name]})
    assert (compared.status_code, "2 experiments" in compared.text) == (200, True)
    assert client.get(f"/compare?id={RUN.name}").status_code == 404


def _check_one(client: httpx.Client, identifier: str, files: int) -> None:
    shown = client.get(f"/experiments/{identifier}")
    assert (shown.status_code, shown.text.count('<td class="file">')) == (200, MOST_FILES)
    assert f"and {files - MOST_FILES} more files" in shown.text
    assert client.get("/experiments/nothing").status_code == 404


def _check_pictures(client: httpx.Client, identifier: str, analysis: Path) -> None:
    (analysis / "a_picture.png").write_bytes(PNG)
    (analysis / "no_picture.png").write_bytes(b"<svg><script>alert(1)</script></svg>")
    (analysis / "drawn.svg").write_bytes(b"<svg/>")
    (analysis / "linked.png").symlink_to(analysis / "a_picture.png")
    picture = client.get(f"/experiments/{identifier}/pictures/a_picture.png")
    assert (picture.status_code, picture.content) == (200, PNG)
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert picture.headers["content-security-policy"].startswith("default-src 'none'")
    for name in ("no_picture.png", "drawn.svg", "linked.png", "missing.png", "..%2fREADME.md"):
        assert client.get(f"/experiments/{identifier}/pictures/{name}").status_code == 404, name
    client.cookies.clear()
    assert client.get(f"/experiments/{identifier}/pictures/a_picture.png").status_code in {303, 401}


def _opened(workstation: Workstation) -> Ended:
    return harvestd_command("-c", workstation.config, "open", "--print")


def _files(workstation: Workstation) -> int:
    question = "SELECT name, COUNT(*) FROM files JOIN runs ON files.experiment = runs.experiment GROUP BY name"
    return next((int(str(number)) for name, number in workstation.catalogue(question) if name == RUN.name), 0)


def _experiment(workstation: Workstation) -> tuple[str, str]:
    question = (
        "SELECT experiments.id, directory, runs.name FROM experiments JOIN runs ON experiments.id = runs.experiment"
    )
    return next(
        (str(each), str(directory)) for each, directory, run in workstation.catalogue(question) if run == RUN.name
    )
