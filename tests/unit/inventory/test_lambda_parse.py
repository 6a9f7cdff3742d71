"""What is taken from the cloud's answers, what is dropped, and who is believed to be gone."""

import json

import pytest

from harvestd.inventory.host import Mount, storage_of
from harvestd.inventory.lambda_api import Instance, InstanceList
from harvestd.inventory.lambda_parse import InvalidAnswer, answer_of, error_code_of
from harvestd.inventory.lambda_provider import AGREEING, AGREEING_EMPTY, MOST_KNOWN, KnownInstances

ID = "0920582c7ff041399e34823a0be62549"
FULL = {
    "id": ID,
    "name": "My Instance",
    "ip": "198.51.100.2",
    "status": "active",
    "file_system_mounts": [{"mount_point": "/lambda/nfs/localfs/", "file_system_id": "a098"}],
    "region": {"name": "us-west-1", "description": "California, USA"},
    "instance_type": {"name": "gpu_1x_h100_pcie", "price_cents_per_hour": 249, "specs": {"gpus": 1}},
    "jupyter_token": "5318008",
    "jupyter_url": "https://x?token=5318008",
    "tags": [{"key": "owner", "value": "x"}, {"key": "experiment", "value": "gns_test_run"}],
}
KNOWN = Instance(
    id=ID,
    name="My-Instance",
    address="198.51.100.2",
    status="active",
    instance_type="gpu_1x_h100_pcie",
    gpus=1,
    experiment="gns_test_run",
    region="us-west-1",
    cents_per_hour=249,
    mounts=(Mount("/lambda/nfs/localfs", "a098"),),
)


def answer(*entries: object) -> InstanceList:
    """Read an answer with these entries."""
    return answer_of(json.dumps({"data": entries}).encode())


def test_a_whole_answer_is_read_without_its_secrets() -> None:
    """All that is used is taken, and a token is in nothing that is left."""
    taken = answer(FULL)
    assert taken == InstanceList((KNOWN,), whole=True)
    assert "5318008" not in repr(taken)


@pytest.mark.parametrize(
    ("key", "value", "unknown"),
    [
        ("name", "\x1b[2J", "2J"),
        ("name", " ../.. ", None),
        ("name", 7, None),
        ("name", "x" * 5000, "x" * 63),
        ("ip", "example.com", None),
        ("ip", "fe80::1%\x1b[2J", None),
        ("ip", ["198.51.100.2"], None),
        ("ip", 3325256706, None),
        ("status", "\n", None),
        ("status", "hibernating", "hibernating"),
        ("region", "us-west-1", None),
        ("tags", {"experiment": "x"}, None),
        ("tags", [{"key": "experiment", "value": "../x"}], None),
        ("tags", [3, None, {"key": "experiment"}], None),
        ("instance_type", {"name": "GPU\n"}, None),
        ("instance_type", {"name": "gpu_8x_a100"}, "gpu_8x_a100"),
        ("instance_type", [[]], None),
        ("file_system_mounts", [{"mount_point": "/", "file_system_id": "a"}, {}, 3], ()),
        ("file_system_mounts", [{"mount_point": "/a\x1b", "file_system_id": "a"}], ()),
        ("file_system_mounts", "localfs", None),
    ],
)
def test_a_field_that_makes_no_sense_is_unknown(key: str, value: object, unknown: object) -> None:
    """One field spoils no other, and no instance."""
    (taken,) = answer({**FULL, key: value}).instances
    names = {"ip": "address", "tags": "experiment", "file_system_mounts": "mounts"}
    assert getattr(taken, names.get(key, key)) == unknown
    assert taken.id == ID


@pytest.mark.parametrize("specs", [None, [], {}, {"gpus": "8"}, {"gpus": True}, {"gpus": 0}, {"gpus": 10**9}])
def test_a_number_of_gpus_that_makes_no_sense_is_unknown(specs: object) -> None:
    """A type without a number is as good as it was."""
    (taken,) = answer({**FULL, "instance_type": {"name": "gpu_8x_a100", "specs": specs}}).instances
    assert (taken.instance_type, taken.gpus) == ("gpu_8x_a100", None)


def test_an_id_alone_is_an_instance() -> None:
    """Whatever may be missing is missing without harm."""
    assert answer({"id": ID}) == InstanceList((Instance(ID),), whole=True)


def test_an_entry_without_an_id_makes_the_answer_a_part() -> None:
    """Who can't be told may be anyone, so nobody is taken for gone by such an answer."""
    assert answer(FULL, {**FULL, "id": "../x"}) == InstanceList((KNOWN,), whole=False)


def test_an_instance_that_ended_is_none() -> None:
    """The cloud lists some for a while after their end."""
    assert answer(FULL | {"status": "terminated"}) == InstanceList((), whole=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"data": 3}',
        b'{"data": [3]}',
        b'{"data": [{"id": "5318008"}',
        b'{"data": [{"id": "a"}, {"id": "a"}]}',
        b'{"data":' + b"[" * 100_000,
        b'{"data": [' + b"{}," * 1000 + b"{}]}",
        b'{"5318008": "\xff\xfe"}',
    ],
)
def test_what_is_no_answer_is_refused_without_a_word_of_it(body: bytes) -> None:
    """Torn, nested, huge and other answers are one kind of error, which quotes nothing."""
    with pytest.raises(InvalidAnswer) as refused:
        answer_of(body)
    assert "5318008" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "global/invalid-api-key", "message": "m"}}', "global/invalid-api-key"),
        (b'{"error": {"code": "\\u001b[2J"}}', ""),
        (b'{"error": "x"}', ""),
        (b"<html>", ""),
    ],
)
def test_of_an_error_only_a_plain_code_is_told(body: bytes, code: str) -> None:
    """A message may hold anything, the key too."""
    assert error_code_of(body) == code


def test_an_instance_leaves_after_answers_that_agree() -> None:
    """One answer with it starts the count anew; what an answer leaves out of it stays as it was."""
    known = KnownInstances()
    without, both = answer({"id": "b"}), answer({"id": "b"}, FULL)
    assert not known.take(both)
    for _ in range(AGREEING - 1):
        known.take(without)
    assert not known.take(answer({"id": "b"}, {"id": ID}))
    assert KNOWN in known.instances
    for _ in range(AGREEING - 1):
        known.take(without)
    assert len(known.instances) == 2
    assert "a part" in known.take(InstanceList(without.instances, whole=False))
    assert len(known.instances) == 2
    known.take(without)
    assert [each.id for each in known.instances] == ["b"]


def test_an_empty_answer_is_believed_late() -> None:
    """It counts against nobody before it was repeated often, and only without a break."""
    known = KnownInstances()
    assert not known.take(answer()), "an account may be empty from the start"
    known.take(answer(FULL))
    assert all("empty" in known.take(answer()) for _ in range(AGREEING_EMPTY - 1))
    known.take(answer(FULL))
    assert [bool(known.take(answer())) for _ in range(AGREEING_EMPTY)] == [*[True] * (AGREEING_EMPTY - 1), False]
    assert not known.instances


def test_a_cloud_that_names_others_each_time_is_followed_to_a_bound() -> None:
    """Answers in part take nobody away, and do not add for ever either."""
    known = KnownInstances()
    for turn in range(5):
        known.take(InstanceList(tuple(Instance(f"{turn}-{number}") for number in range(1_000)), whole=False))
    assert len(known.instances) == MOST_KNOWN


@pytest.mark.parametrize(
    ("roots", "storage"),
    [
        (("/lambda/nfs/localfs",), "a"),
        (("/lambda/nfs/localfs/x", "/home/ubuntu/localfs/y"), "a"),
        (("/home/ubuntu/localfs",), "a"),
        (("/home/ubuntu/localfs2",), None),
        (("/home/ubuntu/localfs", "/home/ubuntu/own"), None),
        (("/lambda/nfs/localfs", "/lambda/nfs/other"), None),
        (("/lambda/nfs/localfs/deep/x",), "c"),
    ],
)
def test_trees_lie_on_the_one_file_system_of_their_roots(roots: tuple[str, ...], storage: str | None) -> None:
    """In doubt two boxes have disks of their own: taking two disks for one would mix their runs."""
    mounts = (
        Mount("/lambda/nfs/localfs", "a"),
        Mount("/lambda/nfs/other", "b"),
        Mount("/lambda/nfs/localfs/deep", "c"),
    )
    assert storage_of(mounts, roots, "ubuntu") == storage
