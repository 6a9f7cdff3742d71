"""Read the keys of an ssh-agent within a deadline; an agent that does not answer is treated as having no keys.

An agent may wait for a person (a locked keyring, a confirmation) or be the forwarded agent of a dead session. It is
queried again only after a pause, so that not every connection attempt spends its time on it. The failure is logged once
until the agent answers.
"""

import time

import anyio
import asyncssh

from harvestd.convention.structs import Immutable
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_PAUSE = 60.0
"""Seconds before an agent that did not answer is queried again."""

_silent: dict[str, tuple[float, str]] = {}
"""Agents that did not answer, by socket: monotonic time of the next query, and the failure."""


class Held(Immutable):
    """The keys of an agent."""

    keys: tuple[asyncssh.SSHKeyPair, ...] = ()
    silent: str = ""
    """How the agent failed to answer; empty where it answered, or where there is no agent."""


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
        # asyncssh raises ValueError for an agent that can't be reached and for an invalid answer.
        _report(socket, f"can't be asked ({e})", 0.0)
        return Held()
    _silent.pop(socket, None)
    return Held(found)


def _report(socket: str, problem: str, pause: float) -> None:
    if socket not in _silent:
        error = f"the ssh-agent {problem}, so that its keys are not used"
        get_logger().warning(Event.SSH_AGENT_SILENT, socket=socket, error=error)
    _silent[socket] = (time.monotonic() + pause, problem)
