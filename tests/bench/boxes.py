"""Real OpenSSH servers for the benchmarks, each with a root on the RAM disk; all of them end with their context."""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from support.openssh import OpenSSHServer


@dataclass(frozen=True, slots=True)
class GpuBox:
    """One box, as a client sees it."""

    name: str
    port: int
    user: str
    key: Path
    root: Path
    server: OpenSSHServer

    def through(self, port: int) -> "GpuBox":
        """Return the same box, reached by another port."""
        return replace(self, port=port)


class Boxes(AbstractContextManager["Boxes"]):
    """Starts boxes below one directory, a new one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self, name: str = "gpu-a", *, max_startups: str = "10:30:100") -> GpuBox:
        """Start a box with an empty root; stock sshd but for what is said otherwise."""
        servers = self._directory / "sshd"
        server = self._stack.enter_context(OpenSSHServer(servers / name, name=name, max_startups=max_startups))
        return GpuBox(name, server.port, server.user, server.client_key, self._root(name), server)

    def share(self, box: GpuBox, name: str) -> GpuBox:
        """Return a further box with a root of its own behind the same server."""
        return replace(box, name=name, root=self._root(name))

    def _root(self, name: str) -> Path:
        root = self._directory / "roots" / name
        root.mkdir(parents=True)
        return root
