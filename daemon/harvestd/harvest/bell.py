"""A wake-up call for whoever sleeps between two looks."""

import anyio


class Bell:
    """Wakes everyone who waits for it, each time it is rung."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = anyio.Event()

    async def rung(self) -> None:
        """Return when it is rung next."""
        await self._event.wait()
