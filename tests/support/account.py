"""An account of the cloud with real boxes behind it, and a workstation whose configuration names none of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from support.cloud import Cloud
from support.house import Workstation
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.shared_trees import own_view
from support.waiting import EventLog, until

FILE_SYSTEM = "f" * 32


class Account:
    """Boxes of the cloud: each address of loopback is another sshd, all on one port, before one file system."""

    def __init__(self, workstation: Workstation, factory: OpenSSHFactory, cloud: Cloud, root: Path) -> None:
        self.workstation = workstation
        self.cloud = cloud
        self.root = root
        self._factory = factory
        self._first: OpenSSHServer | None = None

    def rent(self, identifier: str, name: str, ip: str, within: Sequence[str] = (), **others: object) -> OpenSSHServer:
        """Start a box and name it in the cloud; `others` are fields of the API, in place of the usual ones."""
        port = self._first.port if self._first else 0
        server = self._factory(f"box-{identifier}", at=(ip, port), within=within)
        self._first = self._first or server
        mounts = [{"mount_point": str(self.root), "file_system_id": FILE_SYSTEM}]
        self.cloud.add(identifier, name, ip, **({"file_system_mounts": mounts} | others))
        return server

    def rent_with_disk(self, identifier: str, name: str, ip: str, **others: object) -> Path:
        """Start a box that shows a disk of its own at `root`, which ends with it, and name it; gives that disk."""
        disk = self.root.parent / "disks" / ip
        disk.mkdir(parents=True)
        self.rent(identifier, name, ip, within=own_view(disk, self.root), file_system_mounts=[], **others)
        return disk

    def sections(self) -> dict[str, dict[str, object]]:
        """Return what the configuration says beside the usual."""
        assert self._first is not None
        key_file = self.root.parent / "key"
        key_file.write_text(f"api_key = {self.cloud.key}\n")
        return {
            "ssh": {
                "port": self._first.port,
                "user": self._first.user,
                "identity_files": [str(self._first.client_key)],
            },
            "remote": {"roots": [str(self.root)]},
            "lambda_cloud": {"enabled": True, "base_url": self.cloud.url, "api_key_file": str(key_file)},
        }

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[EventLog]:
        """Run the daemon on them for the body."""
        async with self.workstation.running(**self.sections()) as event_log:
            yield event_log

    async def serve(self, name: str, times: int = 1) -> None:
        """Answer with a failure so many times, then well, until an answer was taken."""
        before = self.cloud.served[name]
        self.cloud.fails = name
        await until(lambda: self.cloud.served[name] >= before + times)
        self.cloud.fails = None
        await self.answers(1)

    async def answers(self, count: int) -> None:
        """Wait for so many good answers that were asked for from now on."""
        before = self.cloud.served["good"]
        await until(lambda: self.cloud.served["good"] > before + count)
