"""What an operator can follow by its name: the events of what came home together."""

import pytest

from support.changing import write_eval, write_run
from support.house import Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_the_files_of_an_eval_and_its_completion_are_one_transfer(workstation: Workstation) -> None:
    """All events of a leaf carry the same `transfer`, and those of another leaf another one."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    evals.seal(2)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "eval.completed"), 60.0)
        found: dict[object, set[object]] = {}
        for done in events(event_log, "eval.completed"):
            for file in events(event_log, "file.downloaded", transfer=done["transfer"]):
                found.setdefault(done["transfer"], set()).add(file["kind"])
            assert {"metrics", "run_meta"} <= {str(kind) for kind in found[done["transfer"]]}
        assert len(found) == len(events(event_log, "eval.completed"))
        others = {one["transfer"] for one in events(event_log, "file.downloaded") if str(one["kind"]) == "config"}
        assert not others & set(found)
