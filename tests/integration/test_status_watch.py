"""`harvestd status --watch` on a terminal, beside a daemon that comes and goes."""

import signal

import pytest
from rich.cells import cell_len

from support.command import harvestd_command
from support.house import Workstation
from support.screens import screen_of

ENDINGS = (signal.SIGINT, signal.SIGTERM)


def test_it_survives_the_daemons_restart_without_a_flicker(workstation: Workstation) -> None:
    """The daemon comes, goes and comes back; nothing is cleared, no line is too long, Ctrl-C leaves order."""
    workstation.add_box("gpu-a")
    workstation.settings()
    with screen_of(["status", "--watch", "-c", workstation.config]) as screen:
        screen.until(lambda frame: frame[0].startswith("no daemon, from the catalogue"))
        for _ in range(2):
            with workstation.program() as daemon:
                found = screen.until(lambda frame: "1 of 1 hosts connected" in frame[0])
                assert f"process {daemon.pid}" in found[0]
                assert any(line.startswith("gpu-a") and " connected" in line for line in found)
            found = screen.until(lambda frame: frame[0].startswith("no daemon since "))
            assert any(line.startswith("gpu-a") and "not watched" in line for line in found)
        screen.type(b"\x03")
        assert screen.ended() == 0
        assert screen.is_as_before
        assert "\x1b[2J" not in screen.raw
        assert "\x1b[?1049h" not in screen.raw
        assert not [line for frame in screen.frames() for line in frame if cell_len(line) > 80]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_signal_restores_the_terminal(workstation: Workstation, ending: signal.Signals) -> None:
    """Cursor and modes are as before, and the exit code is 0; a changed size is followed before that."""
    workstation.settings()
    with screen_of(["status", "--watch", "-c", workstation.config]) as screen:
        screen.until(lambda frame: any("no hosts" in line for line in frame))
        screen.resize(40, 10)
        frame = screen.until(lambda frame: frame[0].endswith("…"))
        assert max(map(cell_len, frame)) <= 40
        screen.process.send_signal(ending)
        assert screen.ended() == 0
        assert screen.is_as_before


def test_off_a_terminal_it_is_shown_once(workstation: Workstation) -> None:
    """Where nobody watches, `--watch` changes nothing."""
    workstation.settings()
    once, watched = (harvestd_command("status", *more, "-c", workstation.config) for more in ([], ["--watch"]))
    assert (once.code, once.out, once.err) == (watched.code, watched.out, watched.err)
