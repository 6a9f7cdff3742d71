"""An ssh-agent that is not OpenSSH's: it lists keys and never signs, or does not even answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from asyncssh.packet import String, UInt32

_IDENTITIES_ANSWER = b"\x0c"
_SIGN_REQUEST = 13


class ScriptedAgent:
    """One agent; made by `scripted_agent`."""

    def __init__(self, blobs: Sequence[bytes], *, answers: bool) -> None:
        self._blobs = blobs
        self._answers = answers
        self.questions = 0
        """How often it was asked anything."""
        self.signatures = 0
        """How often it was asked to sign."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it leaves."""
        try:
            while size := await reader.read(4):
                question = await reader.readexactly(int.from_bytes(size, "big"))
                self.questions += 1
                if question[0] == _SIGN_REQUEST:
                    self.signatures += 1
                elif self._answers:
                    keys = b"".join(String(blob) + String(b"a key") for blob in self._blobs)
                    answer = _IDENTITIES_ANSWER + UInt32(len(self._blobs)) + keys
                    writer.write(UInt32(len(answer)) + answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted_agent(
    socket: Path, blobs: Sequence[bytes] = (), *, answers: bool = True
) -> AsyncIterator[ScriptedAgent]:
    """Listen at `socket` for the body; the agent holds the public keys `blobs`."""
    agent = ScriptedAgent(blobs, answers=answers)
    server = await asyncio.start_unix_server(agent.serve, str(socket))
    async with server:
        yield agent
