"""The loop of `harvestd status --watch`: redraws the scene when it changed, until Ctrl-C or SIGTERM ends it.

The scene is drawn over the previous one, in one piece and without clearing the screen, about twice a second. Signals
are handled one at a time between two drawings, so that none can end the process with half a screen or a hidden cursor.
A thread fetches the scenes meanwhile: a daemon that hangs delays neither drawing nor signals.
"""

import signal
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace
from rich.console import Console
from rich.live import Live
from rich.segment import Segment

from harvestd.cli.output.page import Styled
from harvestd.cli.output.units import duration
from harvestd.cli.watch.scene import Scene
from harvestd.cli.watch.screen import drawn
from harvestd.cli.watch.sources import Scenes
from harvestd.settings import Settings

_EVERY: Final = 0.5
"""Seconds between two drawings."""
_LATE: Final = 5.0
"""Seconds after which a scene is shown as outdated."""
_FIRST: Final = 1.0
"""Seconds to wait for the first scene before anything is drawn."""
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_TAKEN: Final = _ENDING | {signal.SIGWINCH}
_LOCAL_MODES: Final = 3
"""The index in termios's list for the flags that echo typed characters."""


def watch(settings: Settings, console: Console) -> None:
    """Show hosts and runs on `console` until a signal ends it; leave the last scene with the cursor below it."""
    with (
        _signals_wait(),
        _asked_beside(Scenes(settings)) as newest,
        _typing_hidden(console.file.fileno()),
        Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
    ):
        shown: list[list[Segment]] = []
        size = console.size
        while True:
            if console.size != size:
                # The old scene was wrapped for another width, so its beginning can't be found by moving the cursor.
                size = console.size
                console.clear()
            scene = drawn(newest.scene(), console)
            lines = console.render_lines(scene)
            if lines != shown:
                shown = lines
                live.update(scene, refresh=True)
            took = signal.sigtimedwait(_TAKEN, _EVERY)
            if took is not None and took.si_signo in _ENDING:
                return


class _Newest:
    """The newest scene from the thread."""

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes
        self._scene = Scene(Styled("asking the daemon", "dim"))
        self._asked_at = time.monotonic()
        """When the unanswered query began."""
        self._bug: Exception | None = None
        self._is_first = threading.Event()
        self._is_over = threading.Event()

    def scene(self) -> Scene:
        """Return the newest scene; its head is a warning where the next one is late. Raise what ended the thread."""
        self._is_first.wait(_FIRST)
        if self._bug is not None:
            raise self._bug
        waiting = time.monotonic() - self._asked_at
        if waiting < _LATE:
            return self._scene
        late = Styled(f"STUCK: the daemon gives no answer for {duration(waiting)}; this was seen last", "red")
        return replace(self._scene, head=late)

    def run(self) -> None:
        """Query repeatedly, until `stop`."""
        try:
            while not self._is_over.is_set():
                self._asked_at = time.monotonic()
                self._scene = self._scenes.now()
                self._is_first.set()
                self._asked_at = time.monotonic()
                self._is_over.wait(_EVERY)
        except Exception as bug:  # noqa: BLE001  (raised again where it is seen)
            self._bug = bug
            self._is_first.set()

    def stop(self) -> None:
        """Stop querying; a query in progress is not waited for."""
        self._is_over.set()


@contextmanager
def _asked_beside(scenes: Scenes) -> Iterator[_Newest]:
    """Query scenes in a thread during the body. It blocks signals as its creator does, and ends with the process."""
    newest = _Newest(scenes)
    threading.Thread(target=newest.run, daemon=True, name="scenes").start()
    try:
        yield newest
    finally:
        newest.stop()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Block signals, so that `sigtimedwait` receives them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _typing_hidden(terminal: int) -> Iterator[None]:
    """Disable the echo of typed characters: the `^C` of Ctrl-C alone would scroll the screen by a line."""
    before = termios.tcgetattr(terminal)
    hidden = [*before]
    hidden[_LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
