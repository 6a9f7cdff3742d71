"""The daemon as it is, beside a task that counts: `python -m soak.watched CONFIG SAMPLES`.

Each second a line of JSON goes to the file SAMPLES: descriptors, tasks, threads and memory of this process.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import anyio

from harvestd import service
from harvestd.settings import load
from harvestd.telemetry.log import configure

EVERY = 1.0
"""Seconds."""


def counted() -> dict[str, float]:
    """Count what this process holds now."""
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return {
        "at": time.monotonic(),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "memory": int(resident.split()[1]) / 1024,
    }


async def _watched(config: Path, samples: TextIO) -> int:
    async def sample() -> None:
        while True:
            samples.write(json.dumps(counted()) + "\n")
            samples.flush()
            await anyio.sleep(EVERY)

    async with anyio.create_task_group() as beside:
        beside.start_soon(sample)
        code = await service.run(load(config, env={}), config)
        beside.cancel_scope.cancel()
    return code


def main(config: str, samples: str) -> int:
    """Run the daemon until a signal stops it; gives its exit code."""
    configure("json", "info")
    with Path(samples).open("w") as file:
        return anyio.run(_watched, Path(config), file)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
