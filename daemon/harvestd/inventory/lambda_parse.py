"""Parse the cloud's answers as untrusted input: bounded, checked field by field, and without secrets.

An instance's jupyter token and URL are no fields here, so the parser drops them and never creates them as objects. A
field that is missing or invalid is unknown; an entry without an id is left out, and the answer is then no evidence of
absence. Pure: no clock, no network.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harvestd.inventory.host import Mount
from harvestd.inventory.lambda_api import MOST_INSTANCES, Instance, InstanceList

_MOST_ITEMS = 64
"""Tags, or mounts, of one instance."""
_LONGEST_NAME = 63
_MOST_CENTS = 10_000_000
_LONGEST_POINT = 1_024
_MOST_GPUS = 1_024

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ERROR_CODE = re.compile(r"[a-z0-9][a-z0-9/_-]{0,63}")
_EXPERIMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_ENDED = "terminated"

T = TypeVar("T")


class InvalidAnswer(Exception):
    """The body is no valid answer of the API; the text gives the reason and quotes nothing of it."""


def _or_unknown(read: Callable[[Any], T | None]) -> BeforeValidator:
    """Return a validator that returns the result of `read`, None for an invalid value."""

    def check(value: object) -> T | None:
        return read(value)

    return BeforeValidator(check)


def _text(value: object, form: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None


def _name(value: object) -> str | None:
    """Return a name in the form of host names: "My Instance" → My-Instance."""
    if not isinstance(value, str):
        return None
    return _NOT_IN_NAMES.sub("-", value[: 4 * _LONGEST_NAME]).strip("-._")[:_LONGEST_NAME] or None


def _address(value: object) -> str | None:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        return None


def _cents(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_CENTS else None


def _gpus(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_GPUS else None


def _listed(value: object) -> list[object] | None:
    return value[:_MOST_ITEMS] if isinstance(value, list) else None


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


class _Entry(BaseModel):
    """The fields that are used; the parser drops all others."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True, defer_build=True)

    id: Annotated[str | None, _or_unknown(lambda value: _text(value, _ID))] = None
    name: Annotated[str | None, _or_unknown(_name)] = None
    ip: Annotated[str | None, _or_unknown(_address)] = None
    status: Annotated[str | None, _or_unknown(lambda value: _text(value, _WORD))] = None
    instance_type: Annotated[dict[str, Any], BeforeValidator(_table)] = Field(default_factory=dict)
    region: Annotated[dict[str, Any], BeforeValidator(_table)] = Field(default_factory=dict)
    hostname: Annotated[str | None, _or_unknown(lambda value: _text(value, _HOSTNAME))] = None
    actions: Annotated[dict[str, Any], BeforeValidator(_table)] = Field(default_factory=dict)
    tags: Annotated[list[Any] | None, _or_unknown(_listed)] = None
    file_system_mounts: Annotated[list[Any] | None, _or_unknown(_listed)] = None


class _Instances(BaseModel):
    # Parsed directly into fields, without Python objects for what is no field.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)

    data: Annotated[list[_Entry], Field(max_length=MOST_INSTANCES)]


class _Terminated(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)

    terminated_instances: Annotated[list[_Entry], Field(max_length=MOST_INSTANCES)]


class _Termination(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)

    data: _Terminated


class _Error(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)

    error: dict[str, Any]


def answer_of(body: bytes) -> InstanceList:
    """Return the answer to GET /instances; raise `InvalidAnswer`."""
    try:
        entries = _Instances.model_validate_json(body).data
    except ValidationError as e:
        raise InvalidAnswer(_why(e)) from None
    instances: dict[str, Instance] = {}
    for entry in entries:
        if entry.id in instances:
            raise InvalidAnswer("it has an id twice")
        if entry.id is not None:
            instances[entry.id] = _instance(entry.id, entry)
    running = tuple(each for each in instances.values() if each.status != _ENDED)
    return InstanceList(running, whole=len(instances) == len(entries))


def terminated_of(body: bytes) -> frozenset[str]:
    """Return the ids that an answer to a termination lists as terminated; none where it can't be parsed."""
    try:
        entries = _Termination.model_validate_json(body).data.terminated_instances
    except ValidationError:
        return frozenset()
    return frozenset(entry.id for entry in entries if entry.id is not None)


def error_code_of(body: bytes) -> str:
    """Return the code of an error's answer, such as "global/invalid-api-key"; "" where there is none."""
    try:
        return _text(_Error.model_validate_json(body).error.get("code"), _ERROR_CODE) or ""
    except ValidationError:
        return ""


def _why(error: ValidationError) -> str:
    """Return the reason by its kind alone: pydantic's own text may quote the answer."""
    kinds = {each["type"] for each in error.errors(include_input=False, include_context=False, include_url=False)}
    if "json_invalid" in kinds:
        return "it is no JSON, or torn"
    return "it holds no list of instances" if "missing" in kinds or "model_type" in kinds else "its list can't be used"


def _instance(identifier: str, entry: _Entry) -> Instance:
    return Instance(
        id=identifier,
        name=entry.name,
        address=entry.ip,
        status=entry.status,
        instance_type=_text(entry.instance_type.get("name"), _WORD),
        gpus=_gpus(_table(entry.instance_type.get("specs")).get("gpus")),
        experiment=_experiment(entry.tags),
        region=_text(entry.region.get("name"), _WORD),
        cents_per_hour=_cents(entry.instance_type.get("price_cents_per_hour")),
        mounts=_mounts(entry.file_system_mounts),
        hostname=entry.hostname,
        can_end=_is_available(entry.actions.get("terminate")),
    )


def _is_available(action: object) -> bool | None:
    available = _table(action).get("available")
    return available if isinstance(available, bool) else None


def _experiment(tags: list[Any] | None) -> str | None:
    """Return the value of the tag `experiment`."""
    for tag in map(_table, tags or ()):
        if tag.get("key") == "experiment":
            return _text(tag.get("value"), _EXPERIMENT)
    return None


def _mounts(entries: list[Any] | None) -> tuple[Mount, ...] | None:
    if entries is None:
        return None
    found = set()
    for entry in map(_table, entries):
        point, storage = entry.get("mount_point"), _text(entry.get("file_system_id"), _ID)
        if storage and isinstance(point, str) and _is_place(point):
            found.add(Mount(point.rstrip("/"), storage))
    return tuple(sorted(found))


def _is_place(point: str) -> bool:
    """Return whether it is a directory's absolute path, and not the file system's root."""
    return point.startswith("/") and point.strip("/") != "" and point.isprintable() and len(point) <= _LONGEST_POINT
