"""Problems of a configuration as text: where, which key, why, and a hint.

pydantic's own messages are translated, never passed on: they may quote the input, and the input may be a secret. Only
our own checks of durations, sizes and rates repeat the value.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.settings.access import NoKey, api_key
from harvestd.settings.schema import CONTRADICTIONS, Place, Settings
from harvestd.settings.sections import DEFAULT_IDENTITY_FILE, Ssh


class Problem(Immutable):
    """One thing to change."""

    where: str
    """The file, "environment NAME" or "flag"."""
    key: str
    """Dotted, such as `hosts[gpu-a].port`; empty where the problem has no key."""
    message: str
    hint: str = ""

    def __str__(self) -> str:
        start = ": ".join(part for part in (self.where, self.key) if part)
        return f"{start}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidSettings(Fatal):
    """The configuration can't be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join((f"the configuration has {count}:", *map(str, self.problems))))


def key_at(place: Place, data: Mapping[str, object]) -> str:
    """Return the dotted key of `place` in `data`; hosts are named where they have a name."""
    key = ""
    here: object = data
    for step in place:
        here = child(here, step)
        if isinstance(step, str):
            key += f".{step}" if key else step
        else:
            name = here.get("name") if key == "hosts" and isinstance(here, Mapping) else None
            key += f"[{name if isinstance(name, str) and name else step}]"
    return key


def child(parent: object, step: str | int) -> object:
    """Return the value at `step` in a table or a list; None: there is none."""
    if isinstance(parent, Mapping):
        return parent.get(step)
    if isinstance(parent, Sequence) and not isinstance(parent, str) and isinstance(step, int) and step < len(parent):
        return parent[step]
    return None


def described(error: ErrorDetails) -> tuple[tuple[Place, str, str], ...]:
    """Return one pydantic error as (place, message, hint); several only for contradictions."""
    place: Place = tuple(step for step in error["loc"] if step != "[key]")
    context = error.get("ctx", {})
    if error["type"] == CONTRADICTIONS:
        return tuple((where, message, "") for where, message in context["found"])
    if error["type"] == "extra_forbidden":
        return ((place, "is not a known key", _unknown_key_hint(place)),)
    if error["type"] == "literal_error":
        return ((place, f"must be {context['expected']}", ""),)
    if error["type"] == "value_error":
        return ((place, str(context["error"]), ""),)
    hint = "write [[hosts]], with two brackets" if place == ("hosts",) and error["type"] == "tuple_type" else ""
    sentence = _SENTENCES.get(error["type"])
    return ((place, sentence(context) if sentence else "can't be used here", hint),)


_SENTENCES: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "missing": lambda _: "is required",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "string_type": lambda _: "must be a text in quotes",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "is too large a number",
    "int_from_float": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "tuple_type": lambda _: 'must be a list, such as ["a", "b"]',
    "dict_type": lambda _: 'must be a table, such as { a = "b" }',
    "model_type": lambda _: "must be a table",
}


def _unknown_key_hint(place: Place) -> str:
    """Return a hint for an unknown key: a similar name in the same table, otherwise the same name in another."""
    *above, last = place
    name = str(last)
    model = _model_at(above)
    close = difflib.get_close_matches(name.lower(), model.model_fields if model else (), n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    homes = [section for section in Settings.model_fields if _has_key((section,), name)]
    if homes:
        return f"it belongs into {' or '.join(f'[{home}]' for home in homes)}"
    if model is not Settings and name in Settings.model_fields:
        return "it belongs at the top of the file, before the first table"
    return ""


def _has_key(place: Place, name: str) -> bool:
    model = _model_at(place)
    return model is not None and place != ("hosts",) and name in model.model_fields


def _model_at(place: Sequence[str | int]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    for step in place:
        if isinstance(step, int) or model is None:
            continue
        field = model.model_fields.get(step)
        model = model_in(field.annotation) if field else None
    return model


def model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model of an annotation, itself or as the items of a tuple; None: there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part))), None)


AGENT_VARIABLE = "SSH_AUTH_SOCK"


def warnings_for(settings: Settings, *, env: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """Return warnings about valid settings; none of them stops the daemon.

    Their `where` is the affected place on this machine, if there is one. `env` replaces the process's environment if
    given.
    """
    agent = bool((os.environ if env is None else env).get(AGENT_VARIABLE))
    found = list(_about_ssh(settings.ssh, "ssh", set(Ssh.model_fields), agent=agent))
    for host in settings.hosts:
        own = host.model_fields_set & set(Ssh.model_fields)
        found += _about_ssh(settings.ssh_for(host), f"hosts[{host.name}]", own, agent=agent)
    found += _about_cloud(settings, os.environ if env is None else env)
    found += _about_release(settings)
    return tuple(found)


def _about_cloud(settings: Settings, env: Mapping[str, str]) -> Iterator[Problem]:
    if settings.lambda_cloud.enabled:
        try:
            api_key(settings.lambda_cloud, env)
        except NoKey as e:
            yield Problem("", "lambda_cloud.enabled", f"is set, but {e}", e.hint)


def _about_release(settings: Settings) -> Iterator[Problem]:
    """Yield what keeps the daemon from releasing any host although it is configured to."""
    release = settings.release
    if release.terminate == "never":
        return
    if not settings.lambda_cloud.enabled:
        message = f"is {release.terminate!r}, but only boxes of the cloud are released, and it is not asked for any"
        yield Problem("", "release.terminate", message, 'set lambda_cloud.enabled, or terminate = "never"')
    elif not release.only:
        message = f"is empty, so that terminate = {release.terminate!r} releases nothing"
        yield Problem("", "release.only", message, "name the hosts that the daemon may terminate")


def _about_ssh(ssh: Ssh, table: str, keys: set[str], *, agent: bool) -> Iterator[Problem]:
    """Check the given keys of one table."""
    if ssh.identity_files is None and "identity_files" in keys and not ssh.config_files:
        path = Path(DEFAULT_IDENTITY_FILE).expanduser()
        if not path.is_file() and not (ssh.agent and (agent or ssh.agent_socket)):
            message = f"names no key, {DEFAULT_IDENTITY_FILE} does not exist, and no agent runs"
            yield Problem("", f"{table}.identity_files", message, "name a private key")
    if "identity_files" in keys:
        help_of_agent = ssh.agent and (agent or ssh.agent_socket is not None)
        for index, path in enumerate(ssh.identity_files or ()):
            if not path.is_file():
                hint = "" if help_of_agent else "no agent runs either: only the other keys can be offered"
                yield Problem(str(path), f"{table}.identity_files[{index}]", "does not exist or can't be read", hint)
    if "config_files" in keys:
        for index, path in enumerate(ssh.config_files):
            if not path.is_file():
                yield Problem(str(path), f"{table}.config_files[{index}]", "does not exist or can't be read")
    known_hosts = ssh.known_hosts or (None if ssh.config_files else Path("~/.ssh/known_hosts").expanduser())
    is_asked = keys & {"known_hosts", "host_keys"} and ssh.host_keys == "known_hosts"
    if is_asked and known_hosts is not None and not known_hosts.is_file():
        message = "does not exist or can't be read, so that no host would be trusted"
        yield Problem(str(known_hosts), f"{table}.known_hosts", message)
