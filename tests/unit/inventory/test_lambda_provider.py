"""The cloud's provider: where its key comes from, how often it asks, and what a reload changes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import structlog.testing
from pydantic import SecretStr

from harvestd.inventory.host import Host
from harvestd.inventory.lambda_api import Unanswered
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.inventory.providers import merged
from harvestd.settings import LambdaCloud
from harvestd.settings.access import NoKey, api_key
from support.cloud import Cloud, cloud_api
from support.planted import Planted
from support.waiting import events, until

ID = "a" * 32


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Provide an account of one instance."""
    with cloud_api(Planted()) as account:
        account.add(ID, "gpu-a", "198.51.100.2")
        yield account


def settings(cloud: Cloud, *, enabled: bool = True, milliseconds: int = 20) -> LambdaCloud:
    """Return the section for an account, asked more often than any configuration allows."""
    section = LambdaCloud(enabled=enabled, base_url=cloud.url, api_key=SecretStr(cloud.key))
    return section.model_copy(update={"interval": timedelta(milliseconds=milliseconds)})


def test_the_key_comes_from_the_first_place_that_has_one(tmp_path: Path) -> None:
    """The setting, its file, the variables, the file of the cloud's tools, the credential; in that order."""
    (tmp_path / ".lambda_cloud").mkdir()
    (tmp_path / ".lambda_cloud" / "lambda_keys").write_text("# mine\napi_key = secret_of_tools\n")
    (tmp_path / "lambda-api-key").write_text("secret_of_systemd\n")
    own = tmp_path / "own"
    own.write_text(" secret_of_file\n")
    env = {
        "LAMBDA_API_KEY": "secret_of_variable",
        "LAMBDA_CLOUD_API_TOKEN": "secret_of_other",
        "HOME": str(tmp_path),
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    found = [api_key(LambdaCloud(api_key=SecretStr("secret_of_setting"), api_key_file=own), env)]
    found += [api_key(LambdaCloud(api_key_file=own), env)]
    for gone in env:
        found += [api_key(LambdaCloud(), env)]
        env = {name: value for name, value in env.items() if name != gone}
    places = ["setting", "file", "variable", "other", "tools", "systemd"]
    assert [key.get_secret_value().removeprefix("secret_of_") for key in found] == places
    with pytest.raises(NoKey, match="no API key"):
        api_key(LambdaCloud(), {})


@pytest.mark.parametrize("text", ["", "two words-5318008", "5318008", "5318008-\x1b[2J", "5318008-" * 200])
def test_what_can_be_no_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    """A file that holds something else is named, and its text is not."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(NoKey, match="is no API key") as refused:
        api_key(LambdaCloud(api_key_file=tmp_path / "key"), {})
    assert "5318008" not in f"{refused.value} {refused.value.hint}"


def test_a_key_file_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    """Another key is not taken in its place."""
    with pytest.raises(NoKey, match="does not exist"):
        api_key(LambdaCloud(api_key_file=tmp_path / "none"), {"LAMBDA_API_KEY": "secret_of_variable"})


@pytest.mark.anyio
async def test_a_wrong_key_is_told_without_it(cloud: Cloud) -> None:
    """The cloud's code says what is wrong, and the hint what to do."""
    wrong = settings(cloud).model_copy(update={"api_key": SecretStr("secret_5318008")})
    with pytest.raises(Unanswered, match=r"401 \(global/invalid-api-key\)") as refused:
        await LambdaCloudHosts(wrong).query()
    assert "api_key_file" in refused.value.hint
    assert "5318008" not in str(refused.value)


@pytest.mark.anyio
async def test_an_api_elsewhere_sends_nobody_to_this_machine(cloud: Cloud) -> None:
    """Only an API on this machine may name boxes on this machine, or beside it."""
    for identifier, ip in (("b", "127.0.0.1"), ("c", "169.254.169.254"), ("d", "::1"), ("e", "0.0.0.0")):  # noqa: S104
        cloud.add(identifier * 32, "x", ip)
    hosts = LambdaCloudHosts(settings(cloud))
    await hosts.query()
    assert len(hosts.hosts) == 5
    hosts.replace(settings(cloud).model_copy(update={"base_url": "https://cloud.example/api/v1"}))
    assert {host.address for host in hosts.hosts} == {"198.51.100.2"}


@pytest.mark.anyio
async def test_a_cloud_that_is_busy_is_left_alone_for_as_long_as_it_asks(cloud: Cloud) -> None:
    """Retry-After goes before the interval; a failure is told once, and so is its end."""
    cloud.retry_after = "1"
    cloud.fails = "429"
    sets: list[frozenset[Host]] = []
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(LambdaCloudHosts(settings(cloud)).run, sets.append)
            await until(lambda: cloud.served["429"])
            asked = anyio.current_time()
            await until(lambda: cloud.served["429"] == 2)
            assert anyio.current_time() - asked > 0.8
            assert sets == []
            cloud.fails = None
            await until(lambda: sets)
            tasks.cancel_scope.cancel()
    assert len(events(event_log, "inventory.failed", source="lambda_cloud")) == 1
    assert len(events(event_log, "inventory.recovered", hosts=1)) == 1


@pytest.mark.anyio
async def test_a_reload_turns_the_cloud_on_and_off(cloud: Cloud) -> None:
    """Where it is off there are no hosts and no questions; where it is on they are there at once."""
    sets: list[frozenset[Host]] = []
    hosts = LambdaCloudHosts(settings(cloud, enabled=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hosts.run, sets.append)
        await until(lambda: sets == [frozenset()])
        assert not cloud.served
        hosts.replace(settings(cloud))
        await until(lambda: len(sets) == 2 and cloud.served["good"] > 3)
        assert {host.name for host in sets[1]} == {"gpu-a"}
        hosts.replace(settings(cloud, enabled=False))
        await until(lambda: len(sets) == 3)
        assert sets[2] == frozenset()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "ending"), [("active", False), ("unhealthy", False), ("terminating", True)])
async def test_an_instance_that_ends_is_known_as_such(cloud: Cloud, status: str, *, ending: bool) -> None:
    """It is a host as long as it is named, and what is known of it says that it will not stay."""
    cloud.instances[0]["status"] = status
    provider = LambdaCloudHosts(settings(cloud))
    await provider.query()
    assert [host.ending for host in provider.hosts] == [ending]


def test_a_name_belongs_to_one_host() -> None:
    """What the operator wrote down keeps its name; the same box twice is one; others get a part of their identity."""
    written = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")
    same = Host(f"lambda_cloud:{ID}", "gpu-a", "192.0.2.1", "lambda_cloud")
    other = Host("lambda_cloud:" + "b" * 32, "gpu-a", "192.0.2.2", "lambda_cloud")
    third = Host("lambda_cloud:" + "b" * 31 + "c", "gpu-a", "192.0.2.3", "lambda_cloud")
    named = {host.name: host.address for host in merged(frozenset({written}), frozenset({same, other, third}))}
    assert named == {"gpu-a": "192.0.2.1", "gpu-a-bbbbbbbb": "192.0.2.2", "gpu-a-bbbbbbbbb": "192.0.2.3"}
