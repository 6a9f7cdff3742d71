"""What a pass or a plan came to: exit code, page and document."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from harvestd.cli.one_pass import pass_exit_code
from harvestd.cli.output import pass_pages
from harvestd.cli.output.page import Page
from harvestd.cli.output.pass_pages import progress_of
from harvestd.cli.output.rich_output import Bars
from harvestd.convention.scan.model import LeftOut
from harvestd.errors import ExitCode, HostQuarantined, Retry
from harvestd.harvest.host.failures import Failure, PassResult
from harvestd.harvest.host.passes import HostOutcome
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan, Waiting

GOOD = PassResult(3, 2048, {}, {}, (), disk_full=False, missing_roots=frozenset())
FAILED = PassResult(0, 0, {"/box/a": Failure("vanished", 3, 0.0)}, {}, (), disk_full=False, missing_roots=frozenset())
IN_THE_WAY = PassResult(0, 0, {}, {"e/a": "another file"}, (), disk_full=False, missing_roots=frozenset())
FULL = PassResult(0, 0, {}, {}, (), disk_full=True, missing_roots=frozenset())
WAITS = PassResult(
    0, 0, {}, {}, (Waiting("/box/log\x1b", 10, "not quiet", 2.5),), disk_full=False, missing_roots=frozenset()
)


def outcome(
    result: PassResult | None = None,
    *,
    error: Retry | HostQuarantined | None = None,
    plan: Plan | None = None,
    missing: tuple[str, ...] = (),
    name: str = "gpu-a",
) -> HostOutcome:
    """Return what came of one host."""
    host = Host(f"static:{name}", name, "192.0.2.1", "static")
    return HostOutcome(host, result, plan, error, missing_roots=frozenset(missing), seconds=1.5)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], ExitCode.OK),
        ([outcome(GOOD)], ExitCode.OK),
        ([outcome(WAITS)], ExitCode.OK),
        ([outcome(plan=Plan())], ExitCode.OK),
        ([outcome(GOOD), outcome(FAILED)], ExitCode.PARTIAL),
        ([outcome(IN_THE_WAY)], ExitCode.PARTIAL),
        ([outcome(GOOD, missing=("/root",))], ExitCode.PARTIAL),
        ([outcome(plan=Plan(), missing=("/root",))], ExitCode.PARTIAL),
        ([outcome(GOOD), outcome(error=Retry("no"))], ExitCode.PARTIAL),
        ([outcome(error=Retry("no")), outcome(error=HostQuarantined("no"))], ExitCode.NO_HOST),
        ([outcome(FULL), outcome(error=Retry("no"))], ExitCode.DISK_FULL),
    ],
)
def test_exit_code_is_the_gravest_thing(outcomes: list[HostOutcome], code: ExitCode) -> None:
    """A full disk goes before no host at all, that before anything that failed; what only waits is no failure."""
    assert pass_exit_code(outcomes) == code


def test_summary_names_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """The page has a row for each host, and every failure and conflict with its reason."""
    outcomes = [outcome(GOOD), outcome(FAILED, name="b"), outcome(IN_THE_WAY, name="c"), outcome(name="d")]
    pass_pages.write_results(Page(), outcomes, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["gpu-a", "3", "2.0", "KiB", "1.5s", "complete"]
    assert lines[4].split()[0] == "d"
    assert lines[4].endswith("not reached")
    assert any(line.split() == ["b", "3", "/box/a", "vanished"] for line in lines)
    assert any(line.split() == ["c", "e/a", "another", "file"] for line in lines)


def test_summary_lists_what_waits_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """What waits is counted, and listed with its reason and time where that is asked for, escaped."""
    pass_pages.write_results(Page(), [outcome(WAITS)], verbose=False)
    assert capsys.readouterr().out.splitlines()[1:] == ["gpu-a      0   0 B  1.5s  ok, 1 waiting"]
    pass_pages.write_results(Page(), [outcome(WAITS)], verbose=True)
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "gpu-a",
        "10",
        "B",
        "2.5s",
        r"/box/log\x1b",
        "not",
        "quiet",
    ]


def test_document_of_a_pass() -> None:
    """The document has every host, reached or not, with the same keys."""
    document = pass_pages.results_document([outcome(GOOD), outcome(error=Retry("lost", hint="wait"), name="b")])
    hosts = document["hosts"]
    assert isinstance(hosts, list)
    assert (document["files"], document["bytes"]) == (3, 2048)
    assert hosts[0]["error"] is None
    assert hosts[1]["error"] == {"message": "lost", "hint": "wait"}
    assert hosts[0].keys() == hosts[1].keys()


def test_empty_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan with nothing in it says that there is nothing to do."""
    pass_pages.write_plans(Page(), [outcome(plan=Plan())])
    assert capsys.readouterr().out == "gpu-a: nothing to do\n"
    assert pass_pages.plans_document([outcome(plan=Plan())])["bytes_to_fetch"] == 0


def test_plan_counts_what_nobody_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """The total of what is left out says that it is a lower bound where a size is unknown."""
    left_out: dict[str | None, tuple[LeftOut, ...]] = {
        None: (LeftOut("/box/b", None, 3, "rule: b"), LeftOut("/box/a", 1024, 1, "rule: a"))
    }
    pass_pages.write_plans(Page(), [outcome(plan=Plan(left_out=left_out))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gpu-a: nothing to do; 2 left out, at least 1.0 KiB"
    assert [line.split() for line in lines[-2:]] == [
        ["1.0", "KiB", "1", "/box/a", "rule:", "a"],
        ["unknown", "3", "/box/b", "rule:", "b"],
    ]


def test_document_of_a_plan_for_a_host_that_was_not_reached() -> None:
    """A host that could not be read has not nothing to do: nobody knows."""
    hosts = pass_pages.plans_document([outcome(error=Retry("lost")), outcome(plan=Plan(), name="b")])["hosts"]
    assert isinstance(hosts, list)
    assert [host["nothing_to_do"] for host in hosts] == [False, True]


def test_no_bars_off_a_terminal() -> None:
    """Off a terminal there is no progress display, and lines go where they would go anyway."""
    stream = io.StringIO()
    with progress_of(["gpu-a"], stream) as (monitor, lines):
        monitor.moved("gpu-a", 10)
        assert isinstance(monitor, NullListener)
        assert lines is stream
    assert stream.getvalue() == ""


def test_bars_follow_the_bytes() -> None:
    """A bar grows with what is planned, fills with what moves, and is never more than full."""
    progress = Progress(console=Console(file=io.StringIO()), disable=True)
    bars = Bars(progress, ["gpu-a", "gpu-b"])
    bars.planned("gpu-a", 100, 2)
    bars.moved("gpu-a", 40)
    bars.settled("gpu-a", 1)
    first, second = progress.tasks
    assert (first.completed, first.total, first.fields["files"]) == (40, 100, "1/2")
    assert second.total is None
    bars.moved("gpu-a", 100)
    assert (first.completed, first.total) == (140, 140)
