"""Parse a file of targets in the form of Prometheus's file_sd, and report every problem at once.

The file is a list of groups, one for each host: `{"targets": ["address[:port]"], "labels": {"name": "gpu-a"}}`, as JSON
or YAML. Other programs write such files and add labels of their own, which are ignored. A problem's text repeats
nothing of the file but a name that was checked. Pure: nothing is opened here.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.inventory.host import Host
from harvestd.settings.problems import Problem, described
from harvestd.settings.schema import Place
from harvestd.settings.types import ExperimentName, HardwareName, HostName, UserName, address_and_port

MOST_BYTES: Final = 1024 * 1024
"""Of one file."""
MOST_GROUPS: Final = 1_000
"""In one file."""
_MOST_PROBLEMS = 50
"""Of one file that are reported; the others are counted."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class BadFile(Exception):
    """A file can't be used; `problems` lists everything that is wrong with it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dashes or underscores, the first a letter or digit")
    return value


def _one_box(targets: list[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
    if len(targets) > 1:
        raise ValueError("must hold one address: the name belongs to one box, so each has a group of its own")
    return targets


def _place(value: object) -> tuple[str, int | None]:
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
    return address_and_port(value)


_Absent = BeforeValidator(lambda value: None if value == "" else value)
"""An empty label counts as a missing one."""
_Targets = Annotated[list[Annotated[tuple[str, int | None], BeforeValidator(_place)]], AfterValidator(_one_box)]
_Id = Annotated[str, AfterValidator(_id)]


class _Labels(BaseModel):
    """The labels that are used."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True, defer_build=True)

    name: HostName
    id: Annotated[_Id | None, _Absent] = None
    """Distinguishes hosts of one name over time; a new id is a new host, with a host key of its own."""
    hardware: Annotated[HardwareName | None, _Absent] = None
    experiment: Annotated[ExperimentName | None, _Absent] = None
    user: Annotated[UserName | None, _Absent] = None
    storage: Annotated[_Id | None, _Absent] = None
    """The file system of its trees: hosts that show one file system have the same text here, like the cloud's id."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True, defer_build=True)

    targets: _Targets
    labels: _Labels


def hosts_in(raw: bytes, file: Path, source: str) -> tuple[Host, ...]:
    """Return the hosts of the provider `source` in the content of `file`, whose suffix determines the format.

    A group without an address names no host. Raise `BadFile`.
    """
    read = _FORMS.get(file.suffix.lower())
    if read is None:
        raise BadFile(Problem(str(file), "", f"must end in {', '.join(_FORMS)}"))
    if len(raw) > MOST_BYTES:
        raise BadFile(Problem(str(file), "", f"is larger than {MOST_BYTES} bytes"))
    try:
        data = read(raw)
    except (InvalidFacts, ValueError, RecursionError):
        raise BadFile(Problem(str(file), "", f"is torn, or not {read.__name__.removeprefix('_').upper()}")) from None
    if not isinstance(data, list):
        raise BadFile(Problem(str(file), "", 'must be a list of groups, {"targets": […], "labels": {…}}'))
    if len(data) > MOST_GROUPS:
        raise BadFile(Problem(str(file), "", f"has more than {MOST_GROUPS} groups"))
    try:
        groups = _GROUPS.validate_python(data)
    except ValidationError as e:
        raise BadFile(*_told(file, data, e)) from None
    hosts = tuple(_host(group, source, *place) for group in groups for place in group.targets)
    twice = tuple(_twice(file, hosts))
    if twice:
        raise BadFile(*twice)
    return hosts


def _json(raw: bytes) -> object:
    return json.loads(raw)


def _yaml(raw: bytes) -> object:
    from harvestd.convention.metadata.yaml import texts_from_yaml  # noqa: PLC0415  (expensive, and JSON is the common form)

    return texts_from_yaml(raw)


_FORMS: Mapping[str, Callable[[bytes], object]] = MappingProxyType({".json": _json, ".yaml": _yaml, ".yml": _yaml})
_GROUPS: TypeAdapter[list[_Group]] = TypeAdapter(list[_Group], config=ConfigDict(defer_build=True))


def _told(file: Path, data: list[object], error: ValidationError) -> Iterator[Problem]:
    errors = error.errors(include_url=False, include_input=False)
    for each in errors[:_MOST_PROBLEMS]:
        for place, message, hint in described(each):
            yield Problem(str(file), _key(place, data), message, hint)
    if len(errors) > _MOST_PROBLEMS:
        yield Problem(str(file), "", f"and {len(errors) - _MOST_PROBLEMS} more problems")


def _key(place: Place, data: list[object]) -> str:
    """Return the dotted key of a place; a group is named by its host where that has a valid name."""
    index, *rest = place
    group = data[index] if isinstance(index, int) else None
    labels = group.get("labels") if isinstance(group, dict) else None
    name = labels.get("name") if isinstance(labels, dict) else None
    try:
        called = TypeAdapter(HostName).validate_python(name, strict=True)
    except ValidationError:
        called = str(index)
    return f"[{called}]" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)


def _twice(file: Path, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    names: set[str] = set()
    identities: set[str] = set()
    for host in hosts:
        if host.name in names:
            yield Problem(str(file), f"[{host.name}].labels.name", "is the name of another host, too")
        elif host.identity in identities:
            yield Problem(str(file), f"[{host.name}].labels.id", "is the id of another host, too")
        names.add(host.name)
        identities.add(host.identity)


def _host(group: _Group, source: str, address: str, port: int | None) -> Host:
    labels = group.labels
    return Host(
        identity=f"{source}:{labels.id or labels.name}",
        name=labels.name,
        address=address,
        source=source,
        port=port,
        user=labels.user,
        hardware=labels.hardware,
        experiment=labels.experiment,
        storage=labels.storage,
    )
