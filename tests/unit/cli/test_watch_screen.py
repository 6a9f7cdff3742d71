"""The status screen as lines of text: what fits, what gives way, and what a hostile name can do there."""

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from harvestd.cli.output.page import Styled
from harvestd.cli.output.screen import EventLine, HostLine, RunLine, Scene, TransferLine, drawn, shares

HOSTILE = "gpu\x1b[2J\u202e[red]" + "名" * 60


def lines(scene: Scene, width: int = 80, height: int = 24) -> list[str]:
    """Draw a scene on a console of this size."""
    out = StringIO()
    console = Console(file=out, width=width, height=height, markup=False, highlight=False, color_system=None)
    console.print(drawn(scene, console))
    return out.getvalue().splitlines()


def fleet(hosts: int = 20, transfers: int = 9, runs: int = 5, events: int = 30) -> Scene:
    """Return a scene with so much of each."""
    return Scene(
        Styled("harvestd: process 4711", "bold"),
        tuple(HostLine(f"gpu-{i}", Styled("connected", "green"), None, i << 30) for i in range(hosts)),
        tuple(TransferLine(f"gpu-{i}", "/a/step_40/model.safetensors", 1 << 30, 4 << 30) for i in range(transfers)),
        tuple(RunLine(f"run_{i}", "gpu-0", "400/1000", 60.0) for i in range(runs)),
        tuple(EventLine("08:00:00", "info", "file.downloaded", f"path=/x/{i}") for i in range(events)),
    )


@pytest.mark.parametrize("height", [3, 4, 5, 8, 12, 24, 40, 200])
@pytest.mark.parametrize("width", [20, 80, 120])
def test_it_fits_any_size(width: int, height: int) -> None:
    """No line is wider than the terminal, and one line is left free below."""
    found = lines(fleet(), width, height)
    assert len(found) < height
    assert max(map(cell_len, found)) <= width


def test_what_does_not_fit_is_counted() -> None:
    """A section that is too long says how many are not shown; the counts add up."""
    found = lines(fleet(hosts=20, transfers=0, runs=0, events=0), height=12)
    shown = [line for line in found if line.startswith("gpu-")]
    assert f"… and {20 - len(shown)} more" in found
    assert len(shown) >= 6


def test_hosts_give_way_last() -> None:
    """Where there is little room, hosts keep theirs."""
    assert shares(6, (3, 3, 3, 3)) == [3, 0, 0, 0]
    assert shares(12, (3, 3, 3, 3)) == [3, 3, 0, 0]
    assert shares(100, (3, 3, 3, 3)) == [3, 3, 3, 3]
    assert shares(0, (3, 3, 3, 3)) == [0, 0, 0, 0]


def test_a_hostile_name_is_only_shown() -> None:
    """A name with control characters, markup and wide letters neither moves the cursor nor breaks a line."""
    state = Styled(HOSTILE, "")
    scene = Scene(
        Styled(HOSTILE, ""),
        (HostLine(HOSTILE, state, 0.0, 1, HOSTILE, HOSTILE, ""), HostLine("b", state, 0.0, 1, note=HOSTILE)),
        (TransferLine(HOSTILE, HOSTILE, 5, None, 3.0, 4.0),),
        (RunLine(HOSTILE, HOSTILE, HOSTILE, None),),
        (EventLine(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
    )
    found = lines(scene)
    assert max(map(cell_len, found)) <= 80
    assert all(line.isprintable() for line in found)
    assert len(found) == len(lines(fleet(2, 1, 1, 1)))


def test_hosts_in_trouble_come_first() -> None:
    """What needs a person stands above what goes well, and what is over stands last."""
    states = ("gone", "connected", "lost", "quarantined", "never seen")
    hosts = sorted((HostLine("x", Styled(state, ""), None, 0) for state in states), key=lambda host: host.urgency)
    assert [host.state.text for host in hosts] == ["quarantined", "lost", "connected", "never seen", "gone"]


def test_a_transfer_shows_how_far_it_is() -> None:
    """A bar, a share, a rate and the time left."""
    scene = Scene(Styled("", ""), transfers=(TransferLine("a", "/x/y/model", 1 << 30, 4 << 30, 5e7, 65.0),))
    (line,) = (line for line in lines(scene) if "model" in line)
    assert "y/model" in line
    assert "━━━" in line
    assert "25%" in line
    assert "47.7 MiB/s" in line
    assert line.endswith("1m05s")
