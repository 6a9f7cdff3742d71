"""A file of targets may hold anything: it names hosts that can be used, or it is refused with its problems."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.inventory.file_sd import BadFile, hosts_in
from harvestd.inventory.host import Host
from harvestd.settings import HostSettings, Problem
from support.examples import examples

TEXTS = st.text(max_size=20) | st.sampled_from(["gpu-a", "192.0.2.1:22", "[::1]:2", "fe80::1%\x1b", "../x", "a:b"])
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3))
LABELS = st.dictionaries(
    st.sampled_from(["name", "id", "hardware", "experiment", "user", "storage", "job"]), JSON | TEXTS, max_size=7
)
GROUPS = st.lists(
    st.fixed_dictionaries({}, optional={"targets": st.lists(TEXTS, max_size=2) | JSON, "labels": LABELS | JSON}) | JSON,
    max_size=4,
)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@settings(max_examples=examples(100), deadline=None)
@given(raw=st.binary(max_size=200) | GROUPS.map(lambda groups: json.dumps(groups).encode()))
def test_any_content_gives_usable_hosts_or_problems(suffix: str, raw: bytes) -> None:
    """Whatever is taken could have stood in a host's table, each name and identity once; all else is one error."""
    hosts: tuple[Host, ...] = ()
    problems: tuple[Problem, ...] = ()
    try:
        hosts = hosts_in(raw, Path("/targets").with_suffix(suffix), "targets")
    except BadFile as e:
        problems = e.problems or (Problem("", "", "\x1b"),)
    assert all("\x1b" not in str(problem) for problem in problems)
    assert len({host.name for host in hosts}) == len({host.identity for host in hosts}) == len(hosts)
    for host in hosts:
        given = {"hardware": host.hardware, "experiment": host.experiment, "user": host.user, "port": host.port}
        table = {"name": host.name, "address": host.address} | {key: value for key, value in given.items() if value}
        HostSettings.model_validate(table)
