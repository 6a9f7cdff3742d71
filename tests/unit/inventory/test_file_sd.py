"""What a file of targets says: which hosts it names, and all that can be wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from harvestd.inventory.file_sd import MOST_BYTES, MOST_GROUPS, BadFile, hosts_in
from harvestd.inventory.host import Host

FILE = Path("/targets/gpus.json")


def group(address: str = "192.0.2.1", **labels: object) -> dict[str, object]:
    """Build a group of one box."""
    return {"targets": [address], "labels": {"name": "gpu-a", **labels}}


def read(groups: object) -> tuple[Host, ...]:
    """Read groups as JSON."""
    return hosts_in(json.dumps(groups).encode(), FILE, "targets")


def problems(raw: bytes, file: Path = FILE) -> list[str]:
    """Return what is said of a file that can't be used."""
    with pytest.raises(BadFile) as caught:
        hosts_in(raw, file, "targets")
    assert all(problem.where == str(file) for problem in caught.value.problems)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def test_a_group_is_a_box_with_what_its_labels_say() -> None:
    """Other programs' labels and keys are passed over, an empty label is none, and a group without address no box."""
    everything = group(
        "192.0.2.1:2222",
        id="i-1",
        hardware="8x_h100",
        experiment="gns",
        user="me",
        storage="fs-1",
        job="node",
        __meta_x="\x1b[2J",
    )
    plain = group("box.example.org", name="gpu-b", hardware="", id="") | {"other": 1}
    assert read([everything, plain, {"targets": [], "labels": {"name": "none"}}]) == (
        Host(
            "targets:i-1",
            "gpu-a",
            "192.0.2.1",
            "targets",
            port=2222,
            user="me",
            hardware="8x_h100",
            experiment="gns",
            storage="fs-1",
        ),
        Host("targets:gpu-b", "gpu-b", "box.example.org", "targets"),
    )
    assert read([]) == ()


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:22", "192.0.2.1", 22),
        ("gpu.example.org:65535", "gpu.example.org", 65_535),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222),
    ],
)
def test_an_address_may_have_a_port(text: str, address: str, port: int | None) -> None:
    """Both forms of both kinds of address are taken, and names."""
    (host,) = read([group(text)])
    assert (host.address, host.port) == (address, port)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".YAML"])
def test_yaml_says_the_same(suffix: str) -> None:
    """A label without quotes is the text that stands there, whatever YAML takes it for."""
    raw = b"- targets: ['192.0.2.1:22']\n  labels:\n    name: 7\n    experiment: 2025-08-20\n    hardware: null\n"
    (host,) = hosts_in(raw, Path("/t").with_suffix(suffix), "targets")
    assert (host.name, host.experiment, host.hardware, host.port) == ("7", "2025-08-20", None, 22)


def test_every_problem_is_told_at_once_and_nothing_is_repeated() -> None:
    """Each has its file and key, by the box's name where that is a good one; other texts may be secrets."""
    hostile = "SECRET \x1b[2J"
    bad: list[Any] = [
        group(hostile),
        {"targets": ["192.0.2.2"]},
        group(name="../x"),
        group(name="gpu-d", hardware=hostile, experiment=3, user="a b", id="a:b", storage="/"),
        {"targets": ["192.0.2.2", "192.0.2.3"], "labels": {"name": "gpu-e"}},
        {"targets": "192.0.2.2", "labels": {"name": "gpu-f"}},
        3,
    ]
    told = problems(json.dumps(bad).encode())
    assert [each.partition(":")[0] for each in told] == [
        "[gpu-a].targets[0]",
        "[1].labels",
        "[2].labels.name",
        "[gpu-d].labels.id",
        "[gpu-d].labels.hardware",
        "[gpu-d].labels.experiment",
        "[gpu-d].labels.user",
        "[gpu-d].labels.storage",
        "[gpu-e].targets",
        "[gpu-f].targets",
        "[6]",
    ]
    assert told[1] == "[1].labels: is required"
    assert not any("SECRET" in each for each in told)


def test_a_name_and_an_id_belong_to_one_box() -> None:
    """A file that gives one twice says it as often, and names no box at all."""
    groups = [group(), group("192.0.2.2"), group(name="gpu-b", id="1"), group(name="gpu-c", id="1")]
    assert problems(json.dumps(groups).encode()) == [
        "[gpu-a].labels.name: is the name of another host, too",
        "[gpu-c].labels.id: is the id of another host, too",
    ]


@pytest.mark.parametrize(
    ("raw", "file"),
    [
        (b"", "a.json"),
        (b'[{"targets": ["192', "a.json"),
        (b"\xff\xfe", "a.json"),
        (b"[" * 200_000, "a.json"),
        (b"[" + b"1" * 10_000 + b"]", "a.json"),
        (b"{}", "a.json"),
        (b'"text"', "a.json"),
        (b"", "a.yaml"),
        (b"- targets: [", "a.yaml"),
        (b"- a\n---\n- b\n", "a.yaml"),
        (b"[" * 100, "a.yaml"),
        (b"!!python/object/apply:os.system ['true']", "a.yaml"),
        (b"\x00", "a.yaml"),
        (b"[]", "a.toml"),
        (b"[]", "a"),
        (b" " * MOST_BYTES + b"[]", "a.json"),
        (json.dumps([group()] * (MOST_GROUPS + 1)).encode(), "a.json"),
    ],
)
def test_what_is_no_list_of_groups_is_one_problem(raw: bytes, file: str) -> None:
    """Torn, nested, huge, and of another form."""
    assert len(problems(raw, Path("/targets", file))) == 1


def test_an_alias_counts_as_the_value_that_it_names() -> None:
    """YAML's aliases are written by programs where one value is used twice."""
    assert problems(b"- &a [x]\n- *a\n", Path("/targets/a.yaml")) == ["[0]: must be a table", "[1]: must be a table"]


def test_problems_without_end_are_counted() -> None:
    """A whole fleet without names is told in fifty lines and one."""
    told = problems(json.dumps([{"targets": ["192.0.2.1"], "labels": {}}] * 80).encode())
    assert len(told) == 51
    assert told[-1].endswith("and 30 more problems")


def test_lone_surrogates_are_no_text() -> None:
    """JSON can escape what no other format takes."""
    raw = rb'[{"targets": ["192.0.2.1"], "labels": {"name": "a", "user": "\ud800", "experiment": "\udfff"}}]'
    assert len(problems(raw)) == 2
