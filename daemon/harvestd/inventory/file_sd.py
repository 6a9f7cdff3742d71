"""Hosts in target files, in the form of Prometheus's file_sd: a parser, and the provider that follows the files.

The file is a list of groups, one for each host: `{"targets": ["address[:port]"], "labels": {"name": "gpu-a"}}`, as JSON
or YAML. Other programs write such files and add labels of their own, which are ignored. A problem's text repeats
nothing of the file but a name that was checked.

A file is accepted as a whole or not at all. A missing, incomplete or invalid file removes no host; its problems are
logged once, all of them. A host that a file does not list any more is removed when the file is the same at a second
read: a file that is being written may be valid and still incomplete. Where two files use one name, the first file has
precedence.
"""

import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import anyio
import anyio.to_thread
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.inventory.host import Host, Publish
from harvestd.settings import Targets
from harvestd.settings.problems import Problem, described
from harvestd.settings.reload import watch
from harvestd.settings.schema import Place
from harvestd.settings.types import ExperimentName, HardwareName, HostName, UserName, address_and_port
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

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
        raise BadFile(*_problems(file, data, e)) from None
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


def _problems(file: Path, data: list[object], error: ValidationError) -> Iterator[Problem]:
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


_CHECK_EVERY = timedelta(seconds=30)
"""For file systems that report no changes."""
SECOND_CHECK = timedelta(seconds=2)
"""After a read that found hosts removed."""


class BadTargets(Retry):
    """The target files have problems; `problems` lists all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = "; ".join(str(problem) for problem in problems)
        super().__init__(
            f"not all targets are known: {told}", hint="mend the file; what it said before counts until then"
        )
        self.problems = tuple(problems)


class _Reading(Immutable):
    """The result of one read of a file."""

    hosts: tuple[Host, ...] | None = None
    """None: it can't be used."""
    problems: tuple[Problem, ...] = ()
    digest: bytes = b""
    """Of its content."""


class File:
    """One file, and the hosts accepted from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hosts: tuple[Host, ...] | None = None
        """The last good set; None: there was none yet."""
        self.problems: tuple[Problem, ...] = ()
        self._doubted = b""
        """The digest of the content that removed hosts when it was read first."""

    @property
    def is_doubted(self) -> bool:
        """Whether a second read has to confirm that hosts were removed."""
        return bool(self._doubted)

    def take(self, reading: _Reading) -> None:
        """Process the result of a read."""
        self.problems = reading.problems
        doubted, self._doubted = self._doubted, b""
        if reading.hosts is None:
            return
        here = {host.identity for host in reading.hosts}
        is_less = any(host.identity not in here for host in self.hosts or ())
        if is_less and reading.digest != doubted:
            self._doubted = reading.digest
        else:
            self.hosts = reading.hosts


class TargetsFiles:
    """The provider of all target files; `replace` follows a reload. Without files there are no hosts."""

    name = "targets"

    def __init__(self, settings: Targets) -> None:
        self._files = _files(settings, ())
        self._replaced = anyio.Event()
        self._due = anyio.Event()
        self._problems: tuple[Problem, ...] = ()

    def replace(self, settings: Targets) -> None:
        """Apply the section of a reloaded configuration; the state of files in both configurations is kept."""
        if settings.files != tuple(file.path for file in self._files):
            self._files = _files(settings, self._files)
            self._replaced.set()

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known."""
        hosts, _ = _together(self._files)
        return hosts

    async def run(self, publish: Publish) -> None:
        """Publish the hosts whenever they changed, until cancelled."""
        told: frozenset[Host] | None = None

        def send_hosts() -> None:
            nonlocal told
            is_known = not self._files or any(file.hosts is not None for file in self._files)
            if self.hosts != told and (is_known or told is not None):
                told = self.hosts
                publish(told)

        while True:
            self._replaced = anyio.Event()
            with anyio.CancelScope() as following:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow, self._files, send_hosts)
                    await self._replaced.wait()
                    following.cancel()

    async def query(self) -> None:
        """Read the files once; raise `BadTargets` for problems. The valid hosts are stored in either case."""
        await self._look(self._files)
        _, problems = _together(self._files)
        if problems:
            raise BadTargets(problems)

    async def _follow(self, files: Sequence[File], send_hosts: Callable[[], None]) -> None:
        async with anyio.create_task_group() as tasks:
            if files:
                await tasks.start(watch, [file.path for file in files], self._notice)
            while True:
                self._due = anyio.Event()
                await self._look(files)
                self._log_problems()
                send_hosts()
                soon = any(file.is_doubted for file in files)
                with anyio.move_on_after((SECOND_CHECK if soon else _CHECK_EVERY).total_seconds()):
                    await self._due.wait()

    def _notice(self) -> None:
        self._due.set()

    async def _look(self, files: Sequence[File]) -> None:
        for file in files:
            file.take(await anyio.to_thread.run_sync(_read, file.path))

    def _log_problems(self) -> None:
        hosts, problems = _together(self._files)
        log = get_logger()
        if problems and problems != self._problems:
            error = BadTargets(problems)
            log.warning(
                Event.INVENTORY_FAILED,
                source=self.name,
                error=f"not all targets are known; problems: {len(problems)}",
                problems=[str(problem) for problem in problems],
                hint=error.hint,
                hosts=len(hosts),
            )
        elif self._problems and not problems:
            log.info(Event.INVENTORY_RECOVERED, source=self.name, hosts=len(hosts))
        self._problems = problems


def _files(settings: Targets, known: Sequence[File]) -> tuple[File, ...]:
    before = {file.path: file for file in known}
    return tuple(before.get(path) or File(path) for path in dict.fromkeys(settings.files))


def _together(files: Sequence[File]) -> tuple[frozenset[Host], tuple[Problem, ...]]:
    """Return the hosts of all files, and all their problems."""
    taken: dict[str, Path] = {}
    hosts: set[Host] = set()
    problems: list[Problem] = []
    for file in files:
        problems += file.problems
        for host in file.hosts or ():
            other = taken.get(host.name) or taken.get(host.identity)
            if other is None:
                hosts.add(host)
                # A name holds no colon, and an identity does.
                taken |= {host.name: file.path, host.identity: file.path}
            else:
                message = f"stands in {other}, too, which is believed"
                problems.append(Problem(str(file.path), f"[{host.name}].labels.name", message))
    return frozenset(hosts), tuple(problems)


def _read(path: Path) -> _Reading:
    # Imported only where target files are used.

    try:
        # Checked before it is opened: opening a FIFO would block.
        if not stat.S_ISREG(path.stat().st_mode):
            return _unusable(path, "is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        return _Reading(hosts_in(raw, path, TargetsFiles.name), digest=hashlib.sha256(raw).digest())
    except OSError as e:
        return _unusable(path, f"can't be read: {e.strerror or type(e).__name__}")
    except BadFile as e:
        return _Reading(problems=e.problems)


def _unusable(path: Path, message: str) -> _Reading:
    return _Reading(problems=(Problem(str(path), "", message),))
