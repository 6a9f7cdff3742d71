"""The configuration files that come with harvestd, and what is said of settings that are only doubtful."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harvestd.settings import HostSettings, LambdaCloud, NamingRule, Release, Settings, Ssh, load, warnings_for
from harvestd.settings.problems import model_in

if TYPE_CHECKING:
    from pydantic import BaseModel

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = sorted((CONFIG / "examples").glob("*.toml"))


def test_the_annotated_file_is_the_defaults() -> None:
    """What the file shows is what holds without it."""
    assert load(CONFIG / "harvestd.example.toml", env={}) == Settings()


def tables_of_file() -> dict[str, str]:
    """Return the text of each table of the annotated file, those that are commented out too."""
    tables = {"": ""}
    name = ""
    for line in (CONFIG / "harvestd.example.toml").read_text(encoding="utf-8").splitlines():
        header = re.match(r"#? ?\[\[?([a-z_.]+)\]", line)
        if header:
            name = header[1]
            tables.setdefault(name, "")
        else:
            tables[name] += f"{line}\n"
    return tables


def test_every_option_stands_in_the_annotated_file() -> None:
    """Nobody has to read the source to learn what can be set; options of a host follow from [ssh] and [remote]."""
    models: dict[str, type[BaseModel]] = {"": Settings, "naming.rules": NamingRule, "hosts": HostSettings}
    for name, field in Settings.model_fields.items():
        model = model_in(field.annotation)
        if model is not None:
            models.setdefault(name, model)
    tables = tables_of_file()
    assert set(models) == set(tables)
    inherited = {key for base in HostSettings.__bases__ for key in getattr(base, "model_fields", {})}
    for name, model in models.items():
        keys = set(model.model_fields) - (inherited if name == "hosts" else set(models))
        written = set(re.findall(r"^(?:# )?([a-z_]+) = ", tables[name], re.MULTILINE))
        assert keys <= written, f"[{name}] lacks {keys - written}"
        assert written <= set(model.model_fields), f"[{name}] has {written - set(model.model_fields)} too much"


def test_what_is_commented_out_would_load(tmp_path: Path) -> None:
    """The examples in the comments are right, too."""
    text = (CONFIG / "harvestd.example.toml").read_text(encoding="utf-8")
    text = re.sub(r"^rules = .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^# (\[\[|[a-z_]+ = )", r"\1", text, flags=re.MULTILINE)
    path = tmp_path / "harvestd.toml"
    path.write_text(text, encoding="utf-8")
    settings = load(path, env={})
    assert settings.hosts[0].name == "gpu-a"
    assert settings.naming.rules[0].experiment == "gns_test_run"
    assert settings.lambda_cloud.api_key is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_loads(path: Path) -> None:
    """What people copy works as it is."""
    assert load(path, env={}) != Settings()


def test_there_is_an_example_for_each_kind_of_fleet() -> None:
    """Those that the README names are there."""
    assert [path.stem for path in EXAMPLES] == ["big-fleet", "lambda-cloud", "static-hosts", "targets"]
    assert len((CONFIG / "examples/static-hosts.toml").read_text(encoding="utf-8").splitlines()) == 10


def test_a_missing_key_file_is_worth_a_word_with_and_without_an_agent(tmp_path: Path) -> None:
    """It is named with its place; the way out differs with an agent at hand."""
    here, missing = tmp_path / "here", tmp_path / "missing"
    here.write_text("", encoding="utf-8")
    settings = Settings(ssh=Ssh(identity_files=(here, missing)))
    (alone,) = warnings_for(settings, env={})
    assert (alone.where, alone.key) == (str(missing), "ssh.identity_files[1]")
    assert "agent" in alone.hint
    (helped,) = warnings_for(settings, env={"SSH_AUTH_SOCK": "/run/agent"})
    assert not helped.hint
    (unused,) = warnings_for(
        settings.model_copy(update={"ssh": Ssh(identity_files=(missing,), agent=False)}),
        env={"SSH_AUTH_SOCK": "/run/agent"},
    )
    assert unused.hint


def test_a_hosts_own_files_are_looked_at_once(tmp_path: Path) -> None:
    """What a host takes from the section is told with the section, what is its own with the host."""
    key = tmp_path / "key"
    key.write_text("", encoding="utf-8")
    tables = [
        {"name": "gpu-a", "address": "192.0.2.1", "identity_files": [tmp_path / "no"], "host_keys": "known_hosts"},
        {"name": "gpu-b", "address": "192.0.2.2"},
    ]
    settings = Settings(
        ssh=Ssh(identity_files=(key,), known_hosts=tmp_path / "kh", config_files=(tmp_path / "cf",)),
        hosts=tuple(HostSettings.model_validate(table) for table in tables),
    )
    found = warnings_for(settings, env={})
    assert [problem.key for problem in found] == [
        "ssh.config_files[0]",
        "hosts[gpu-a].identity_files[0]",
        "hosts[gpu-a].known_hosts",
    ]


def test_what_is_set_but_comes_to_nothing_is_told(tmp_path: Path) -> None:
    """Somebody who asks for discovery or release should learn why nothing happens."""
    key = tmp_path / "key"
    key.write_text("", encoding="utf-8")
    ssh = Ssh(identity_files=(key,))
    assert warnings_for(Settings(ssh=ssh), env={}) == ()
    cloud = LambdaCloud(enabled=True)
    release = Release(terminate="when-drained")
    found = warnings_for(Settings(ssh=ssh, lambda_cloud=cloud, release=release), env={})
    assert [problem.key for problem in found] == ["lambda_cloud.enabled", "release.only"]
    found = warnings_for(Settings(ssh=ssh, release=release), env={})
    assert [problem.key for problem in found] == ["release.terminate"]
    named = Release(terminate="dry-run", only=("gpu-a",))
    env = {"LAMBDA_API_KEY": "0123456789"}
    assert warnings_for(Settings(ssh=ssh, lambda_cloud=cloud, release=named), env=env) == ()
