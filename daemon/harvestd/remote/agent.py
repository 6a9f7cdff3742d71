"""The keys of an ssh-agent, asked for with a deadline: an agent that does not answer holds no keys.

An agent may wait for a person (a locked keyring, a confirmation) or be the forwarded one of a dead session. It is
asked again only after a pause, so that each connection attempt does not spend its time on it, and it is reported once
until it answers.
"""

import time

import anyio
import asyncssh

from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_PATIENCE = 5.0
"""Seconds for the list of keys: an agent that is not waiting for a person answers within milliseconds."""
_PAUSE = 60.0
"""Seconds before an agent that did not answer is asked again."""

_silent_until: dict[str, float] = {}
"""Agents that did not answer, by their socket: monotonic seconds until they are asked again."""


async def keys_of(agent: asyncssh.SSHAgentClient, socket: str, patience: float) -> list[asyncssh.SSHKeyPair]:
    """Return the agent's keys; none where it does not answer within `patience` seconds (5 at most)."""
    until = _silent_until.get(socket)
    if until is not None and time.monotonic() < until:
        return []
    try:
        with anyio.fail_after(min(_PATIENCE, patience)):
            found = list(await agent.get_keys())
    except TimeoutError:
        _report(socket, "does not answer", _PAUSE)
        return []
    except (OSError, ValueError) as e:
        # ValueError is asyncssh's class for an agent that can't be reached, and for an answer that is none.
        _report(socket, f"can't be asked ({e})", 0.0)
        return []
    _silent_until.pop(socket, None)
    return found


def _report(socket: str, problem: str, pause: float) -> None:
    if socket not in _silent_until:
        error = f"the ssh-agent {problem}, so that its keys are not used"
        get_logger().warning(Event.SSH_AGENT_SILENT, socket=socket, error=error)
    _silent_until[socket] = time.monotonic() + pause
