"""The roll of hosts: each that comes, goes or stands where another one stood is told, once."""

import pytest
import structlog.testing

from harvestd.harvest.fleet.fleet import HostChanges, ReachableHost
from harvestd.inventory.host import Host
from harvestd.remote.ssh.target import Target


def box(identity: str, name: str, address: str = "192.0.2.1", port: int = 22) -> ReachableHost:
    """Build a host that is reached at an address."""
    return ReachableHost(Host(identity, name, address, "test"), Target(identity, address, port))


A, B = box("id:a", "gpu-a"), box("id:b", "gpu-b", "192.0.2.2")


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ([[A], [A]], [["appeared gpu-a"], []]),
        ([[A], [], [A]], [["appeared gpu-a"], ["gone gpu-a"], ["appeared gpu-a"]]),
        ([[A], [box("id:a", "gpu-a", "192.0.2.9")]], [["appeared gpu-a"], []]),
        ([[A], [box("id:c", "gpu-a", "192.0.2.9")]], [["appeared gpu-a"], ["gone gpu-a", "replaced gpu-a id:a"]]),
        ([[A], [], [box("id:c", "gpu-a")]], [["appeared gpu-a"], ["gone gpu-a"], ["replaced gpu-a id:a"]]),
        (
            [[A], [box("id:c", "gpu-c")]],
            [["appeared gpu-a"], ["gone gpu-a", "appeared gpu-c", "replaced gpu-c id:a"]],
        ),
        (
            [[A], [], [box("id:c", "gpu-c")]],
            [["appeared gpu-a"], ["gone gpu-a"], ["appeared gpu-c", "replaced gpu-c id:a"]],
        ),
        (
            [[A], [A, box("id:c", "gpu-c")], [box("id:c", "gpu-c")], [box("id:c", "gpu-c")]],
            [["appeared gpu-a"], ["appeared gpu-c"], ["gone gpu-a", "replaced gpu-c id:a"], []],
        ),
        ([[A], [box("id:c", "gpu-c", port=23)]], [["appeared gpu-a"], ["gone gpu-a", "appeared gpu-c"]]),
        (
            [[A, B], [box("id:a", "gpu-a", "192.0.2.2"), box("id:b", "gpu-b", "192.0.2.1")]],
            [["appeared gpu-a", "appeared gpu-b"], []],
        ),
        (
            [[A, B], [B], [box("id:b", "gpu-b", "192.0.2.1")]],
            [["appeared gpu-a", "appeared gpu-b"], ["gone gpu-a"], []],
        ),
        (
            [[A], [box("id:a", "gpu-a", "192.0.2.9")], [box("id:a", "gpu-a", "192.0.2.9"), box("id:c", "gpu-c")]],
            [["appeared gpu-a"], [], ["appeared gpu-c"]],
        ),
    ],
    ids=[
        "nothing changed",
        "gone and back",
        "moved",
        "replaced under its name",
        "replaced under its name, later",
        "replaced at its address",
        "replaced at its address, later",
        "replaced at its address, while it was still named",
        "another box behind one address",
        "two that swapped",
        "one that moved to where nobody is any more",
        "a new one where one moved away",
    ],
)
def test_each_change_is_told_once(sets: list[list[ReachableHost]], told: list[list[str]]) -> None:
    """What is told follows from the full sets alone; one that moves is the same box."""
    changes, heard = HostChanges(), []
    for present in sets:
        with structlog.testing.capture_logs() as event_log:
            changes.apply({each.host.identity: each for each in present})
        heard.append(
            [
                " ".join([one["event"].removeprefix("host."), one["host"], *([one["old"]] if "old" in one else [])])
                for one in event_log
            ]
        )
    assert heard == told


def test_the_last_of_a_name_is_known() -> None:
    """A host that is gone is on record as such, unless another one is called so now."""
    changes = HostChanges()
    changes.apply({"id:a": A})
    assert changes.apply({}) == [A.host]
    assert changes.is_last(A.host)
    changes.apply({"id:c": box("id:c", "gpu-a")})
    assert not changes.is_last(A.host)


def test_what_is_remembered_is_bounded() -> None:
    """A cloud that names others each time is not remembered for good."""
    changes = HostChanges()
    with structlog.testing.capture_logs():
        for number in range(1_500):
            changes.apply(
                {f"id:{number}": box(f"id:{number}", f"gpu-{number}", f"10.0.{number // 250}.{number % 250}")}
            )
    assert len(changes.named) == len(changes.placed) == 1_000
