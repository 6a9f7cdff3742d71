"""What the settings' models accept, refuse and answer."""

import sys
from datetime import timedelta
from pathlib import Path
from subprocess import run

import pytest
from pydantic import ValidationError

from harvestd.settings import HostSettings, LambdaCloud, Naming, NamingRule, Remote, Settings, Ssh


def host(**keys: object) -> HostSettings:
    """Build a host's table from what would stand in it."""
    return HostSettings.model_validate({"name": "gpu-a", "address": "192.0.2.1", **keys})


def test_the_defaults_are_those_of_the_design() -> None:
    """A configuration that says nothing means what the annotated file shows."""
    settings = Settings()
    assert settings.poll.interval == timedelta(seconds=10)
    assert (settings.ssh.user, settings.ssh.port, settings.ssh.identity_files) == (None, None, None)
    assert settings.limits.memory == 512 * 1024**2
    assert settings.limits.bandwidth is None
    assert settings.verdict.idle_for == timedelta(minutes=15)
    assert settings.release.terminate == "never"
    assert settings.data_root == Path.home() / "data" / "downloaded_runs"


def test_the_environment_is_not_read_by_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loader looks at variables, so that settings built in code are what the code says."""
    monkeypatch.setenv("HARVESTD_SSH__USER", "somebody")
    monkeypatch.setenv("HARVESTD_DATA_ROOT", "/elsewhere")
    assert Settings().ssh.user is None
    assert Settings().data_root != Path("/elsewhere")


def test_settings_are_frozen() -> None:
    """Nothing changes a configuration but a reload."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.version = 1
    with pytest.raises(ValidationError):
        settings.ssh.port = 23


def test_the_state_lies_in_the_data_root_unless_it_is_given() -> None:
    """`state` is where the catalogue goes."""
    assert Settings(data_root=Path("/data")).state == Path("/data/.harvestd")
    assert Settings(data_root=Path("/data"), state_dir=Path("/state")).state == Path("/state")


def test_a_hosts_table_overrides_only_what_it_says() -> None:
    """Keys that stand in the table go first, even at their default; the others follow the section."""
    ssh = Ssh(user="trainer", port=2222)
    remote = Remote(roots=("/data",), eval_dirs=("evals",))
    table = host(port=22, roots=["/scratch"])
    settings = Settings(ssh=ssh, remote=remote, hosts=(table,))
    assert settings.ssh_for(table) == Ssh(user="trainer", port=22)
    assert settings.remote_for(table) == Remote(roots=("/scratch",), eval_dirs=("evals",))


def test_a_host_without_a_table_has_the_sections() -> None:
    """A host that a cloud names is reached by the sections alone."""
    settings = Settings(ssh=Ssh(user="trainer"), hosts=(host(port=23),))
    other = host(name="gpu-z", port=99)
    assert settings.ssh_for(other) is settings.ssh
    assert settings.remote_for(other) is settings.remote


def test_every_key_of_ssh_and_remote_can_be_given_for_one_host() -> None:
    """No key of the two sections is missing from a host's table."""
    assert set(Ssh.model_fields) | set(Remote.model_fields) <= set(HostSettings.model_fields)


def test_tables_that_mean_different_things_are_not_equal() -> None:
    """A key written at its default overrides a section, so a reload must see that it came or went."""
    assert host(port=22) != host()
    assert host() == host()
    assert Settings(ssh=Ssh(port=2222), hosts=(host(port=22),)) != Settings(ssh=Ssh(port=2222), hosts=(host(),))


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "a/b", "a" * 64, "é", "a\n"])
def test_host_names_that_are_no_names_are_refused(name: str) -> None:
    """A host's name goes into directories and events."""
    with pytest.raises(ValidationError):
        host(name=name)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "box.example.org", "my_alias", "fe80::1%eth0"])
def test_addresses_of_every_kind_are_taken(address: str) -> None:
    """An address is an IP of either kind, a name, or an alias of an OpenSSH file."""
    assert host(address=address).address == address


@pytest.mark.parametrize(
    "address", ["", "u@h", "192.0.2.1:22", "a b", "-oProxyCommand=x", "a/b", "[2001:db8::1]", "a\x1b[2J"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """Users, ports and anything that could be taken for an option stand elsewhere or nowhere."""
    with pytest.raises(ValidationError):
        host(address=address)


@pytest.mark.parametrize("jump", ["", "jump", "a,u@b:22", "u@jump", "u@jump:2222", "u@[2001:db8::1]:22", "192.0.2.9"])
def test_jump_hosts_are_taken(jump: str) -> None:
    """User and port may be left out."""
    assert Ssh(proxy_jump=jump).proxy_jump == jump


@pytest.mark.parametrize("jump", ["u@", "a,", ",a", "u@jump:0", "u@jump:70000", "u@jump:x", "-x", "a b", "u@v@w"])
def test_what_is_no_jump_host_is_refused(jump: str) -> None:
    """Each is a host, and nothing that could be taken for an option."""
    with pytest.raises(ValidationError):
        Ssh(proxy_jump=jump)


@pytest.mark.parametrize("root", ["", "home", "~/x", "/a/../b", "/a\nb", "/a\0"])
def test_roots_must_be_absolute_and_plain(root: str) -> None:
    """A root means the same directory whoever reads it."""
    with pytest.raises(ValidationError):
        Remote(roots=(root,))


def test_there_is_at_least_one_root() -> None:
    """Without a root, an empty box and a wrong configuration would look the same."""
    with pytest.raises(ValidationError, match="at least one root"):
        Remote(roots=())


def test_roots_are_kept_in_one_form() -> None:
    """Slashes at the end or in a row make no other root."""
    assert Remote(roots=("/data/", "//x//y")).roots == ("/data", "/x/y")


@pytest.mark.parametrize("name", ["", "/a", "..", "a/../b", ".", "./"])
def test_directories_must_lie_below_the_roots(name: str) -> None:
    """A tree is a plain name below a root."""
    with pytest.raises(ValidationError):
        Remote(training_dirs=(name,))


def test_directories_may_have_several_parts() -> None:
    """Evals may lie deeper: RL_Practice/eval_runs."""
    assert Remote(eval_dirs=("RL_Practice/eval_runs",)).eval_dirs == ("RL_Practice/eval_runs",)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "..", "a b", "é", "x" * 101, "-x", "a\n"])
def test_experiment_names_must_fit_into_a_directorys_name(name: str) -> None:
    """The name becomes the first part of a directory."""
    with pytest.raises(ValidationError):
        Naming(default_experiment=name)


def test_a_naming_rule_says_when_it_applies() -> None:
    """A rule without any pattern would silently take every run."""
    with pytest.raises(ValidationError, match="at least one"):
        NamingRule(experiment="x")
    assert NamingRule(run="run_*", experiment="x").run == "run_*"


@pytest.mark.parametrize("url", ["http://example.org", "ftp://x", "https://u:p@x", "https://x?k=1", "nonsense", ""])
def test_the_key_never_travels_to_a_doubtful_url(url: str) -> None:
    """Without https the key could be read on the way."""
    with pytest.raises(ValidationError):
        LambdaCloud(base_url=url)


def test_a_local_stand_in_for_the_cloud_may_speak_http() -> None:
    """On this machine nobody listens in between."""
    assert LambdaCloud(base_url="http://127.0.0.1:8080/api/").base_url == "http://127.0.0.1:8080/api"


@pytest.mark.parametrize(
    ("hosts", "remote", "part"),
    [
        ((host(), host()), Remote(), "another host"),
        ((), Remote(training_dirs=(), eval_dirs=()), "nothing would be watched"),
        ((), Remote(training_dirs=("a",), eval_dirs=("a",)), "more than once"),
        ((), Remote(roots=("/a", "/a/")), "more than once"),
        ((host(training_dirs=["eval_runs"]),), Remote(), "more than once"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    hosts: tuple[HostSettings, ...], remote: Remote, part: str
) -> None:
    """Some things are wrong only together."""
    with pytest.raises(ValidationError, match=part):
        Settings(hosts=hosts, remote=remote)


def test_a_hosts_directories_are_judged_together_with_the_sections() -> None:
    """A table that takes a name which the section gave up is right."""
    table = host(eval_dirs=["training_runs"])
    settings = Settings(remote=Remote(training_dirs=("other",)), hosts=(table,))
    assert settings.remote_for(table).eval_dirs == ("training_runs",)


def test_secrets_are_not_shown() -> None:
    """Neither the text nor the representation of settings tells a key."""
    settings = Settings.model_validate({"lambda_cloud": {"api_key": "s3cret"}})
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)
    assert "s3cret" not in settings.model_dump_json()
    assert settings.lambda_cloud.api_key is not None
    assert settings.lambda_cloud.api_key.get_secret_value() == "s3cret"


def test_importing_the_settings_is_cheap() -> None:
    """The command line imports them for every command."""
    code = "import sys, harvestd.settings; print({'asyncssh', 'sqlalchemy', 'rich', 'structlog'} & set(sys.modules))"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "set()"
