"""`harvestd status --watch` on a terminal, beside a daemon that comes and goes."""

import signal

import anyio
import pytest
from rich.cells import cell_len

from harvestd.cli.daemon import DaemonClient
from harvestd.errors import ExitCode
from support.command import harvestd_command
from support.house import Workstation
from support.screens import screen_of
from support.waiting import until

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


def test_colours_that_are_asked_for_make_no_terminal(workstation: Workstation) -> None:
    """Variables that ask for colours in a pipe, as in a CI job, draw no screen there and end in no traceback."""
    workstation.settings()
    done = harvestd_command("status", "--watch", "-c", workstation.config, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert done.code == ExitCode.LOCKED
    assert "bug:" not in done.err


def test_a_daemon_that_hangs_is_said_to_and_ctrl_c_works(workstation: Workstation) -> None:
    """The screen says so within seconds, keeps what was seen last, and ends at once when it is asked to."""
    workstation.add_box("gpu-a")
    workstation.settings()
    with (
        workstation.program() as daemon,
        screen_of(["status", "--watch", "-c", workstation.config]) as screen,
    ):
        screen.until(lambda frame: "1 of 1 hosts connected" in frame[0])
        daemon.send_signal(signal.SIGSTOP)
        try:
            found = screen.until(lambda frame: frame[0].startswith("STUCK"))
            assert any(line.startswith("gpu-a") for line in found)
            screen.type(b"\x03")
            assert screen.ended(8.0) == 0
            assert screen.is_as_before
            done = harvestd_command("status", "--json", "-c", workstation.config)
            assert done.document["daemon"] == {
                "running": True,
                "pid": daemon.pid,
                "answers": False,
                "paused": None,
                "stuck": None,
            }
            assert "does not answer" in harvestd_command("status", "-c", workstation.config).out
        finally:
            daemon.send_signal(signal.SIGCONT)


def test_status_says_that_the_daemon_is_paused(workstation: Workstation) -> None:
    """A pause that somebody forgot is seen where people look."""
    client = DaemonClient(workstation.settings())
    with workstation.program():
        anyio.run(
            until, lambda: harvestd_command("status", "--json", "-c", workstation.config).document["daemon"]["answers"]
        )
        client.command("pause")
        daemon = harvestd_command("status", "--json", "-c", workstation.config).document["daemon"]
        assert (daemon["answers"], daemon["paused"], daemon["stuck"]) == (True, True, "")
        assert "it is paused" in harvestd_command("status", "-c", workstation.config).out
