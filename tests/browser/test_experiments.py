"""The views of experiments in a real browser: the table, one experiment, several compared."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, base_evals, evals_of_run
from support.browsing import HOSTILE, Served, accessibility, overflows, wait, watching
from support.house import Workstation
from support.openssh import OpenSSHFactory, require_sshd

FIRST = RunSpec("2025-08-17_21-36-00", total_steps=8)
SECOND = RunSpec("2025-08-18_22-10-00", total_steps=16, gns_window=32)
HOSTILE_RUN = RunSpec("2025-08-19_05-20-00", total_steps=12, gns_probe=False)
NOTES = (
    "Notes of a person\n\n- <script>alert(3)</script>\n- [a link](javascript:alert(4))\n"
    "- ![elsewhere](https://example.com/x.png)\n\n"
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cf500f0003860180"
    "5a349b6f0000000049454e44ae426082"
)
pytestmark = pytest.mark.openssh


class Results(Served):
    """A fleet with finished runs and their evals on gpu-c, and an experiment with a hostile name."""

    def __init__(self, workstation: Workstation) -> None:
        super().__init__(workstation)
        root = workstation.boxes["gpu-c"].root
        for spec in (FIRST, SECOND, HOSTILE_RUN):
            writer = RunWriter(root, spec)
            writer.start()
            writer.log_until(spec.total_steps)
            writer.finish()
        first, second = EvalSpec(FIRST, questions=60), EvalSpec(SECOND, questions=60)
        base_evals(root, first).evaluate("base_full")
        for evals, steps in ((first, (2, 4, 8)), (second, (4, 8, 16)), (EvalSpec(SECOND, "math", questions=9), (16,))):
            made = evals_of_run(root, evals)
            made.write_config()
            for step in steps:
                made.evaluate(step)

    def settle(self) -> None:
        """Wait for the files; then write notes and a picture, and give one directory a hostile name."""
        house = self.workstation
        wait(lambda: self._evals() >= 7, 60)
        directory = house.experiment(FIRST.name)
        hostile = house.experiment(HOSTILE_RUN.name)
        assert directory is not None
        assert hostile is not None
        readme = directory / "README.md"
        wait(readme.exists, 60)
        readme.write_text(NOTES + readme.read_text())
        (directory / "analysis" / "a_picture.png").write_bytes(PIXEL)
        (directory / "analysis" / "other.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        hostile.rename(hostile.with_name(HOSTILE))
        named = "SELECT 1 FROM experiments WHERE moved_to IS NOT NULL"
        wait(lambda: self.workstation.catalogue(named), 60)

    def _evals(self) -> int:
        ((number,),) = self.workstation.catalogue("SELECT COUNT(*) FROM files WHERE kind = 'metrics'") or [(0,)]
        return int(str(number))

    def identifier(self, run: RunSpec) -> str:
        """Return the id of the experiment of a run."""
        question = "SELECT runs.name, experiments.id FROM experiments JOIN runs ON experiments.id = runs.experiment"
        return next(str(each) for name, each in self.workstation.catalogue(question) if name == run.name)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Run a daemon with several experiments for the tests of the module."""
    require_sshd()
    directory = tmp_path_factory.mktemp("experiments")
    with closing(OpenSSHFactory(directory / "openssh")) as factory:
        found = Results(Workstation(directory, factory))
        with found.running():
            found.settle()
            yield found


def views(results: Results) -> tuple[str, ...]:
    """Return the addresses of all three views."""
    first, second, third = (results.identifier(run) for run in (FIRST, SECOND, HOSTILE_RUN))
    return (
        "/experiments",
        f"/experiments/{first}",
        f"/experiments/{third}",
        f"/compare?id={first}&id={second}&id={third}",
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_they_paint_in_both_schemes(browser: Browser, results: Results, scheme: str, pictures: Path | None) -> None:
    """Nothing overflows, no policy is violated, and axe-core finds nothing serious, at each width."""
    with watching(browser, results, color_scheme=scheme) as watched:
        for number, path in enumerate(views(results)):
            page = watched.at(path)
            for width in (1_440, 390, 820, 2_560):
                page.set_viewport_size({"width": width, "height": 900})
                expect(page.locator("h1")).to_be_visible()
                assert not overflows(page), f"{path} at {width} px"
                if pictures is not None:
                    page.screenshot(path=pictures / f"x{number}-{scheme}-{width}.png", full_page=True)
            page.set_viewport_size({"width": 1_440, "height": 900})
            assert accessibility(page) == []
            page.close()


def test_they_work_without_script(browser: Browser, results: Results) -> None:
    """Filter, sort, choose and compare by plain links and forms; no match names the filter to drop."""
    with watching(browser, results, java_script_enabled=False) as watched:
        page = watched.at("/experiments")
        rows = page.locator(".experiments tbody tr")
        expect(rows).to_have_count(5)
        page.get_by_role("link", name="Best pass rate").click()
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("Best pass rate")
        expect(rows.first.locator("svg.range")).to_be_visible()
        page.get_by_role("searchbox").fill("2025-08-18")
        page.get_by_role("button", name="Filter").click()
        expect(rows).to_have_count(1)
        page.get_by_role("searchbox").fill("nothing like it")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("main")).to_contain_text("No experiment matches")
        page.get_by_role("link", name="drop it").click()
        expect(rows).to_have_count(5)
        page.get_by_label(re.compile("Compare gns_test_2025-08-17")).check()
        page.get_by_label(re.compile("Compare gns_test_2025-08-18")).check()
        page.get_by_role("button", name="Compare").click()
        _expect_compared(page)


def _expect_compared(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("2 experiments")
    table = page.locator(".compared").first
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator(".letter b")).to_have_text(["A", "B"])
    expect(table.locator(".word").last).to_contain_text(re.compile("better|worse|within error"))
    expect(page.locator(".differing")).to_contain_text("gns_probe.window_size")
    expect(page.get_by_role("heading", name="The same in all")).to_be_visible()


def test_the_choice_is_kept(browser: Browser, results: Results) -> None:
    """With script the button counts; another order, a live change and the way back keep what is ticked."""
    with watching(browser, results) as watched:
        page = watched.at("/experiments")
        go = page.locator("#go")
        expect(go).to_be_disabled()
        page.get_by_label(re.compile("Compare gns_test_2025-08-17")).check()
        page.get_by_label(re.compile("Compare gns_test_2025-08-18")).check()
        expect(go).to_have_text("Compare 2")
        page.get_by_role("link", name="Steps", exact=True).click()
        expect(page.locator(".experiments input:checked")).to_have_count(2)
        with page.expect_response(lambda answer: "x-harvestd-part" in answer.request.headers):
            results.train()
        expect(page.locator(".experiments input:checked")).to_have_count(2)
        go.click()
        _expect_compared(page)
        page.get_by_role("link", name="Choose others").click()
        expect(page.locator(".experiments input:checked")).to_have_count(2)
        page.locator("#clear").click()
        expect(page.locator(".experiments input:checked")).to_have_count(0)
        assert "id=" not in page.url


def test_one_experiment_is_whole_and_hostile_text_is_text(browser: Browser, results: Results) -> None:
    """README, picture, files with their source and hash, what is left out; nothing of it runs."""
    with watching(browser, results) as watched:
        page = watched.at(f"/experiments/{results.identifier(FIRST)}")
        readme = page.locator(".readme")
        expect(readme).to_contain_text("<script>alert(3)</script>")
        expect(readme).to_contain_text("[a link](javascript:alert(4))")
        assert page.locator("main script, .readme a, .readme img").count() == 0
        expect(readme.get_by_role("heading", name="Results")).to_be_visible()
        assert "harvestd begins" not in readme.inner_text()
        picture = page.locator(".pictures img")
        wait(lambda: picture.evaluate("each => each.complete && each.naturalWidth") == 1)
        expect(page.locator(".files-here")).to_contain_text("gpu-c:/")
        expect(page.get_by_role("region", name="What is left out")).to_be_visible()
        for path in (f"/experiments/{results.identifier(HOSTILE_RUN)}", views(results)[3], "/experiments"):
            page = watched.at(path)
            expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
            assert page.locator("main img, main script").count() == 0
            assert "\u202e" not in page.content()
