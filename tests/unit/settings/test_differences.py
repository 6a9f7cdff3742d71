"""What a reload is told to have changed: keys by name, never a value."""

from typing import Any

import pytest

from harvestd.settings import HostSettings, Settings
from harvestd.settings.reload import Differences, differences

SECRET = "hunter2-hunter2"  # noqa: S105  (the test looks for it)


def table(name: str, **keys: object) -> HostSettings:
    """Return a host's table with these keys."""
    return HostSettings.model_validate({"name": name, "address": "192.0.2.1", **keys})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, Differences()),
        ({}, {"poll": {"interval": "3s", "push": False}}, Differences(changed=("poll.interval", "poll.push"))),
        ({}, {"data_root": "/elsewhere"}, Differences(changed=("data_root",))),
        ({}, {"lambda_cloud": {"api_key": SECRET}}, Differences(changed=("lambda_cloud.api_key",))),
        ({}, {"hosts": [table("a")]}, Differences(added=("hosts[a]",))),
        ({"hosts": [table("a"), table("b")]}, {"hosts": [table("b")]}, Differences(removed=("hosts[a]",))),
        ({"hosts": [table("a"), table("b")]}, {"hosts": [table("b"), table("a")]}, Differences()),
        ({"hosts": [table("a")]}, {"hosts": [table("a", port=23)]}, Differences(changed=("hosts[a].port",))),
        ({"hosts": [table("a")]}, {"hosts": [table("a", port=22)]}, Differences(changed=("hosts[a].port",))),
    ],
)
def test_differences_are_named_by_their_keys(old: Any, new: Any, expected: Differences) -> None:  # noqa: ANN401  (raw)
    """Each key that differs is named once, hosts by their names and wherever they stand, and no value is."""
    found = differences(Settings(**old), Settings(**new))
    assert found == expected
    assert bool(found) == (expected != Differences())
    assert SECRET not in repr(found)
