"""Finding and reading the configuration, and how its problems are told."""

from pathlib import Path

import pytest

from harvestd.errors import ExitCode, Fatal
from harvestd.settings import InvalidSettings, Problem, Settings, find_config, load
from harvestd.settings.load import FIRST_FILE
from support.command import harvestd_command


def written(directory: Path, text: str) -> Path:
    """Write a configuration file and give its path."""
    path = directory / "harvestd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, overrides: dict[str, str] | None = None, env: dict[str, str] | None = None) -> list[Problem]:
    """Return what `load` says of a configuration that it refuses."""
    with pytest.raises(InvalidSettings) as caught:
        load(path, overrides or {}, env=env or {})
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
    return list(caught.value.problems)


def told(found: list[Problem]) -> dict[str, str]:
    """Return the messages by key."""
    assert len({problem.key for problem in found}) == len(found)
    return {problem.key: problem.message for problem in found}


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    """Nothing has to be written."""
    assert load(written(tmp_path, ""), env={}) == Settings()


def test_the_first_file_that_is_shown_to_newcomers_loads(tmp_path: Path) -> None:
    """The example in the hint is one that works."""
    assert load(written(tmp_path, FIRST_FILE), env={}).hosts[0].name == "gpu-a"
    assert len(FIRST_FILE.splitlines()) <= 10


def test_flags_go_before_variables_and_variables_before_the_file(tmp_path: Path) -> None:
    """Each source overrides only the keys that it names."""
    path = written(tmp_path, '[ssh]\nuser = "file"\nport = 1\nproxy_jump = "file"\n')
    env = {"HARVESTD_SSH__USER": "env", "HARVESTD_SSH__PORT": "2", "HARVESTD_DATA_ROOT": "/data"}
    settings = load(path, {"ssh.user": "flag"}, env=env)
    assert (settings.ssh.user, settings.ssh.port, settings.ssh.proxy_jump) == ("flag", 2, "file")
    assert settings.data_root == Path("/data")


def test_only_the_environment_that_is_passed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test is not disturbed by the shell that it runs in; without one, the shell's is used."""
    path = written(tmp_path, "")
    monkeypatch.setenv("HARVESTD_SSH__USER", "shell")
    assert load(path, env={}).ssh.user is None
    assert load(path).ssh.user == "shell"


def test_variables_that_are_empty_or_no_keys_are_passed_over(tmp_path: Path) -> None:
    """HARVESTD_CONFIG names the file; an empty variable is one that was not set."""
    env = {"HARVESTD_CONFIG": "/x", "HARVESTD_SSH__USER": "", "OTHER": "1", "SSH_AUTH_SOCK": "/s"}
    assert load(written(tmp_path, ""), env=env) == Settings()


def test_lists_and_tables_are_json_in_variables_and_flags(tmp_path: Path) -> None:
    """What has a structure keeps it, and a table from a variable is laid over the file's."""
    path = written(tmp_path, '[naming.models]\na = "Org/A"\nb = "Org/B"\n')
    env = {
        "HARVESTD_HOSTS": '[{"name": "gpu-a", "address": "192.0.2.1"}]',
        "HARVESTD_NAMING__MODELS": '{"b": "Org/New"}',
    }
    settings = load(path, {"remote.roots": '["/a", "/b"]'}, env=env)
    assert settings.hosts[0].address == "192.0.2.1"
    assert settings.naming.models == {"a": "Org/A", "b": "Org/New"}
    assert settings.remote.roots == ("/a", "/b")


def test_relative_paths_start_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file: beside it. In a variable or a flag: in the working directory. `~` is at home everywhere."""
    home, work, etc = (tmp_path / name for name in ("home", "work", "etc"))
    for directory in (home, work, etc):
        directory.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    path = written(
        etc,
        'data_root = "runs"\nssh = { identity_files = ["key", "~/key", "/key"] }\n'
        'hosts = [{ name = "a", address = "b", identity_files = ["own"], known_hosts = "kh" }]\n',
    )
    settings = load(path, {"lambda_cloud.api_key_file": "k"}, env={"HARVESTD_STATE_DIR": "state"})
    assert settings.data_root == etc / "runs"
    assert settings.ssh.identity_files == (etc / "key", home / "key", Path("/key"))
    assert settings.ssh_for(settings.hosts[0]).identity_files == (etc / "own",)
    assert settings.ssh_for(settings.hosts[0]).known_hosts == etc / "kh"
    assert settings.state_dir == work / "state"
    assert settings.lambda_cloud.api_key_file == work / "k"
    monkeypatch.chdir(etc)
    assert load(Path("harvestd.toml"), env={}).data_root == etc / "runs"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """One look at the answer is enough to correct the whole file."""
    path = written(
        tmp_path,
        """
version = 2
data_root = ""
[poll]
interval = "10"
push = "perhaps"
[ssh]
port = 70000
host_keys = "trust"
identity_files = "~/.ssh/x"
[remote]
roots = ["home"]
training_dirs = ["a", "a"]
[limits]
memory = 1
bandwidth = "0MiB/s"
[naming]
default_experiment = "../x"
models = 3
[[naming.rules]]
experiment = "x"
[[naming.rules]]
run = "*"
[[hosts]]
name = "gpu-a"
address = "192.0.2.1:22"
[[hosts]]
address = "192.0.2.2"
[[hosts]]
name = "gpu-c"
address = "192.0.2.3"
port = "x"
[[hosts]]
name = "gpu-c"
address = "192.0.2.4"
[verdict]
accept_loss = ["everything"]
[release]
at_most_per_hour = 0
""",
    )
    found = problems(path)
    assert {problem.where for problem in found} == {str(path)}
    assert told(found) == {
        "version": "must be 1: this harvestd reads no other version of the file",
        "data_root": "must be a path, neither empty nor holding NUL",
        "poll.interval": '\'10\' is no duration: write one such as "10s", "15m", "1h30m" or "2d"',
        "poll.push": "must be true or false",
        "ssh.port": "must be at most 65535",
        "ssh.host_keys": "must be 'pin' or 'known_hosts'",
        "ssh.identity_files": 'must be a list, such as ["a", "b"]',
        "remote.roots[0]": "must be an absolute path on the box ('~' means nothing there)",
        "remote.training_dirs": "and 'eval_dirs' hold 'a' more than once",
        "limits.memory": "must be at least 32MiB",
        "limits.bandwidth": 'must be a rate above zero such as "50MiB/s", or "unlimited"',
        "naming.default_experiment": (
            "must be usable in a directory's name: 1 to 100 letters, digits, dots, dashes or underscores, "
            "the first neither a dot nor a dash"
        ),
        "naming.models": 'must be a table, such as { a = "b" }',
        "naming.rules[0]": "needs at least one of 'host', 'run' and 'model'",
        "naming.rules[1].experiment": "is required",
        "hosts[gpu-a].address": "must be an address alone: the port goes into 'port'",
        "hosts[1].name": "is required",
        "hosts[gpu-c].port": "must be a whole number",
        "hosts[gpu-c].name": "is the name of another host, too",
        "verdict.accept_loss[0]": (
            "must be 'checkpoints', 'evaluated_checkpoints', 'records', 'rollouts', 'wandb', 'links', "
            "'outside_files' or 'uncommitted_work'"
        ),
        "release.at_most_per_hour": "must be at least 1",
    }


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('[poll]\nintervall = "3s"', "poll.intervall", "did you mean 'interval'?"),
        ('[poll]\nInterval = "3s"', "poll.Interval", "did you mean 'interval'?"),
        ("[pol]\npush = true", "pol", "did you mean 'poll'?"),
        ('[ssh]\ndata_root = "/x"', "ssh.data_root", "it belongs at the top of the file, before the first table"),
        ("push = true", "push", "it belongs into [poll]"),
        ('[[hosts]]\nname="a"\naddress="b"\nprot=1', "hosts[a].prot", "did you mean 'port'?"),
        ("[ssh]\nxyzzy = 1", "ssh.xyzzy", ""),
        ('_env_file = "x"', "_env_file", ""),
        ("_build_sources = 1", "_build_sources", ""),
        ('[hosts]\nname = "a"', "hosts", "write [[hosts]], with two brackets"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path: Path, text: str, key: str, hint: str) -> None:
    """A typing error never leaves a default in force silently."""
    (found,) = problems(written(tmp_path, text))
    assert (found.key, found.hint) == (key, hint)


def test_a_problem_names_the_source_that_has_to_change(tmp_path: Path) -> None:
    """File, variable and flag are told apart, key by key."""
    path = written(tmp_path, '[poll]\ninterval = "x"\n[ssh]\nport = 0\nuser = "a b"\n')
    env = {"HARVESTD_SSH__PORT": "0", "HARVESTD_POL__PUSH": "1", "HARVESTD_REMOTE__ROOTS": "/data"}
    found = problems(path, {"ssh.user": "c d", "nothing.here": "1"}, env)
    assert {problem.key: problem.where for problem in found} == {
        "poll.interval": str(path),
        "ssh.port": "environment HARVESTD_SSH__PORT",
        "pol": "environment HARVESTD_POL__PUSH",
        "remote.roots": "environment HARVESTD_REMOTE__ROOTS",
        "ssh.user": "flag",
        "nothing": "flag",
    }


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"version = \n", "line 1, column 11"),
        (b'a = "\xff"', "not UTF-8"),
        (b"[ssh]\n[ssh]\n", "line 2"),
    ],
)
def test_a_file_that_is_not_toml_is_one_problem(tmp_path: Path, content: bytes, part: str) -> None:
    """The place in the file is named, and the other sources are still judged."""
    path = tmp_path / "harvestd.toml"
    path.write_bytes(content)
    found = problems(path, {"ssh.port": "0"})
    assert [problem.where for problem in found] == [str(path), "flag"]
    assert part in found[0].message


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    """A missing file, a directory, a link to nowhere: said, and never taken for an empty configuration."""
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    for path in (tmp_path / "none.toml", tmp_path, loop):
        (found,) = problems(path)
        assert found.where == str(path)
        assert found.message


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("[lambda_cloud]\napi_key = 5318008", {}),
        ('[lambda_cloud]\napi_key = ["5318008"]', {}),
        ('[lambda_cloud]\napi_key = "5318008"\ninterval = "x"', {}),
        ('[lambda_cloud]\napi_kee = "5318008"', {}),
        ('lambda_cloud = "5318008"', {}),
        ("version = 2", {"HARVESTD_LAMBDA_CLOUD__API_KEY": "5318008"}),
        ("", {"HARVESTD_LAMBDA_CLOUD__API_KEE": "5318008"}),
        ("", {"HARVESTD_LAMBDA_CLOUD": "{5318008"}),
        ("", {"HARVESTD_LAMBDA_CLOUD__API_KEY__X": "5318008"}),
    ],
)
def test_no_problem_tells_a_secret(tmp_path: Path, text: str, env: dict[str, str]) -> None:
    """Whatever is wrong about or beside a key, its value stays out of the text and out of the chain of causes."""
    with pytest.raises(InvalidSettings) as caught:
        load(written(tmp_path, text), env=env)
    error: BaseException | None = caught.value
    while error is not None:
        assert "5318008" not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__
    assert "5318008" not in repr(caught.value.problems)


def test_the_usual_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nearer to the operator goes first; the working directory is no such place."""
    monkeypatch.chdir(tmp_path)
    for name in ("harvestd.toml", "config/harvestd.toml", "config/harvestd.example.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    places = [tmp_path / name for name in ("explicit.toml", "variable.toml", "xdg/harvestd/harvestd.toml")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("", encoding="utf-8")
    xdg = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    env = {"HARVESTD_CONFIG": str(places[1]), **xdg}
    assert find_config(places[0], env=env) == places[0]
    assert find_config(None, env=env) == places[1]
    assert find_config(None, env=xdg) == places[2]
    at_home = tmp_path / "home/.config/harvestd/harvestd.toml"
    at_home.parent.mkdir(parents=True)
    at_home.write_text("", encoding="utf-8")
    assert find_config(None, env={"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": "xdg"}) == at_home


def test_a_file_that_was_asked_for_is_not_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in -c or the variable must not start the daemon with another fleet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/harvestd.toml").write_text("", encoding="utf-8")
    with pytest.raises(Fatal, match=r"none\.toml.*-c"):
        find_config(Path("none.toml"), env={})
    with pytest.raises(Fatal, match=r"none\.toml.*HARVESTD_CONFIG"):
        find_config(None, env={"HARVESTD_CONFIG": "none.toml"})


def test_without_any_file_all_places_and_a_way_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer learns where to put a file, what to write, and how to look around without one."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fatal) as caught:
        find_config(None, env={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    for place in (
        "-c",
        "$HARVESTD_CONFIG",
        str(tmp_path / "xdg"),
        "/etc/harvestd/harvestd.toml",
    ):
        assert place in str(caught.value)
    assert "config/harvestd.toml" not in f"{caught.value} {caught.value.hint}"
    assert "harvestd demo" in caught.value.hint
    assert FIRST_FILE in caught.value.hint


def test_a_file_of_the_working_directory_is_not_read_but_named(tmp_path: Path) -> None:
    """A checkout, or any foreign directory, has no say: its file is named with the way to have it read, no more."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/harvestd.toml").write_text('version = 1\ndata_root = "data"\n', encoding="utf-8")
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""}
    for command in ("check", "status", "plan"):
        done = harvestd_command(command, cwd=tmp_path, **home)
        assert (done.code, done.out) == (ExitCode.CONFIGURATION, "")
        assert "-c config/harvestd.toml" in done.err
    assert harvestd_command("check", "-c", "config/harvestd.toml", cwd=tmp_path, **home).code == ExitCode.OK
