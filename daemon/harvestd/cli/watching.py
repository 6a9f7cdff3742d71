"""The loop of `harvestd status --watch`: draws the scene anew where it changed, until Ctrl-C or SIGTERM ends it.

Drawn over what stood there, in one piece and without clearing the screen, about twice a second. Signals are taken one
at a time between two drawings, so that none can end the process with half a screen or a hidden cursor.
"""

import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.segment import Segment

from harvestd.cli.scenes import Scenes
from harvestd.cli.screen import drawn
from harvestd.settings import Settings

_EVERY: Final = 0.5
"""Seconds between two drawings."""
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_TAKEN: Final = _ENDING | {signal.SIGWINCH}
_LOCAL_MODES: Final = 3
"""Where `termios` keeps whether a terminal shows what is typed."""


def watch(settings: Settings, console: Console) -> None:
    """Show how hosts stand on `console` until a signal asks to end; leaves the last scene and the cursor below it."""
    scenes = Scenes(settings)
    with (
        _signals_wait(),
        _typing_hidden(console.file.fileno()),
        Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
    ):
        shown: list[list[Segment]] = []
        size = console.size
        while True:
            if console.size != size:
                # What stands there was wrapped for another width: no cursor finds its beginning any more.
                size = console.size
                console.clear()
            scene = drawn(scenes.now(), console)
            lines = console.render_lines(scene)
            if lines != shown:
                shown = lines
                live.update(scene, refresh=True)
            took = signal.sigtimedwait(_TAKEN, _EVERY)
            if took is not None and took.si_signo in _ENDING:
                return


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold signals back until `sigtimedwait` takes them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _typing_hidden(terminal: int) -> Iterator[None]:
    """Keep what is typed from being shown: the `^C` of Ctrl-C alone would push the screen up by a line."""
    before = termios.tcgetattr(terminal)
    hidden = [*before]
    hidden[_LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
