"""The keys of an ssh-agent, asked for with a deadline: an agent that does not answer holds no keys.

An agent may wait for a person (a locked keyring, a confirmation) or be the forwarded one of a dead session. It is
asked again only after a pause, so that each connection attempt does not spend its time on it, and it is reported once
until it answers.
"""

import time

import anyio
import asyncssh

from harvestd.convention.structs import Immutable
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_PAUSE = 60.0
"""Seconds before an agent that did not answer is asked again."""

_silent: dict[str, tuple[float, str]] = {}
"""Agents that did not answer, by their socket: monotonic seconds until they are asked again, and what was wrong."""


class Held(Immutable):
    """What an agent holds."""

    keys: tuple[asyncssh.SSHKeyPair, ...] = ()
    silent: str = ""
    """How it did not answer; empty where it did, or where there is none."""


async def keys_of(agent: asyncssh.SSHAgentClient, socket: str, patience: float) -> Held:
    """Return the agent's keys; none where it does not answer within `patience` seconds."""
    until, silent = _silent.get(socket, (0.0, ""))
    if time.monotonic() < until:
        return Held(silent=silent)
    try:
        with anyio.fail_after(patience):
            found = tuple(await agent.get_keys())
    except TimeoutError:
        silent = f"did not answer within {patience:g} s"
        _report(socket, silent, _PAUSE)
        return Held(silent=silent)
    except (OSError, ValueError) as e:
        # ValueError is asyncssh's class for an agent that can't be reached, and for an answer that is none.
        _report(socket, f"can't be asked ({e})", 0.0)
        return Held()
    _silent.pop(socket, None)
    return Held(found)


def _report(socket: str, problem: str, pause: float) -> None:
    if socket not in _silent:
        error = f"the ssh-agent {problem}, so that its keys are not used"
        get_logger().warning(Event.SSH_AGENT_SILENT, socket=socket, error=error)
    _silent[socket] = (time.monotonic() + pause, problem)
