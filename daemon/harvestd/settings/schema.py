"""All settings of the operator, as one frozen value: `Settings`.

The models refuse invalid values; `load` reads the sources and reports each problem as text. `Settings(...)` itself
reads neither a file nor the environment, so a test gets exactly the values that it passes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from harvestd.settings.notify import Notify
from harvestd.settings.sections import (
    Api,
    Jobs,
    LambdaCloud,
    Limits,
    Naming,
    Poll,
    Release,
    Remote,
    Report,
    Select,
    SettingsTable,
    Ssh,
    Targets,
    Verdict,
)
from harvestd.settings.types import Address, ExperimentName, HardwareName, HostName, OwnPath

PREFIX = "HARVESTD_"
DELIMITER = "__"
VERSION = 1
CONTRADICTIONS = "contradictions"
"""The type of the one pydantic error that holds several problems, each with its place, under `found`."""

SectionT = TypeVar("SectionT", bound=SettingsTable)


class Named(Protocol):
    """Any object with a host's name: a table here, or a host of the inventory."""

    @property
    def name(self) -> str:
        """The operator's name for the host."""
        ...


class HostSettings(Ssh, Remote):
    """One `[[hosts]]` table: a host, and its own keys of [ssh] and [remote].

    The inherited fields hold the built-in default where the table has no key. Use `Settings.ssh_for` and
    `Settings.remote_for` for the values that apply to a host.
    """

    name: HostName
    address: Address
    hardware: HardwareName | None = None
    """In the form of directory names, such as "8x_h100"; None: detected."""
    experiment: ExperimentName | None = None
    """The experiment of every run of this host; None: from the naming rules."""
    cents_per_hour: int | None = Field(default=None, ge=0, le=10_000_000)
    """The host's price, for reports on the cost of waiting; None: unknown."""

    # A key with its default value overrides a section, a missing key does not: two such tables are not equal.
    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.model_fields_set == getattr(other, "model_fields_set", None)

    def __hash__(self) -> int:
        return hash((self.name, self.address))


def _known_version(value: int) -> int:
    if value != VERSION:
        raise ValueError(f"must be {VERSION}: this harvestd reads no other version of the file")
    return value


def _empty_table() -> Any:  # noqa: ANN401 - validated like a written one, it becomes the section that the field names
    """Return the file's value for a missing section.

    A section made here would be built separately; validating `Settings` builds it anyway.
    """
    return {}


class Settings(BaseModel):
    """The whole configuration. Every key has a default, so that `Settings()` is valid and has no hosts."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    version: Annotated[int, AfterValidator(_known_version)] = VERSION
    data_root: OwnPath = Path("~/data/downloaded_runs")
    """The directory of the experiments."""
    state_dir: OwnPath | None = None
    """The directory of the catalogue; see `state`."""
    poll: Poll = Field(default_factory=_empty_table)
    ssh: Ssh = Field(default_factory=_empty_table)
    remote: Remote = Field(default_factory=_empty_table)
    select: Select = Field(default_factory=_empty_table)
    limits: Limits = Field(default_factory=_empty_table)
    naming: Naming = Field(default_factory=_empty_table)
    report: Report = Field(default_factory=_empty_table)
    hosts: tuple[HostSettings, ...] = ()
    targets: Targets = Field(default_factory=_empty_table)
    lambda_cloud: LambdaCloud = Field(default_factory=_empty_table)
    api: Api = Field(default_factory=_empty_table)
    jobs: Jobs = Field(default_factory=_empty_table)
    verdict: Verdict = Field(default_factory=_empty_table)
    release: Release = Field(default_factory=_empty_table)
    notify: Notify = Field(default_factory=_empty_table)

    @property
    def state(self) -> Path:
        """The directory of the catalogue: `state_dir`, else `.harvestd` in the data root."""
        return self.state_dir or self.data_root / ".harvestd"

    def ssh_for(self, host: Named) -> Ssh:
        """Return [ssh] for `host`: keys of the table with its name, if there is one, take precedence."""
        return self._applied(self.ssh, host)

    def remote_for(self, host: Named) -> Remote:
        """Return [remote] for `host`: keys of the table with its name, if there is one, take precedence."""
        return self._applied(self.remote, host)

    def _applied(self, section: SectionT, host: Named) -> SectionT:
        table = next((table for table in self.hosts if table.name == host.name), None)
        if table is None:
            return section
        own = {key: getattr(table, key) for key in type(section).model_fields if key in table.model_fields_set}
        return section.model_copy(update=own)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        found = tuple(contradictions(self))
        if found:
            sentences = "; ".join(f"{'.'.join(map(str, place))} {message}" for place, message in found)
            # pydantic would parse braces in the text as fields of its template, so the text is passed as one.
            raise PydanticCustomError(CONTRADICTIONS, "{sentences}", {"sentences": sentences, "found": found})
        return self


Place = tuple[str | int, ...]
"""The path of a key: the names of tables and keys above it, and indexes into lists."""


def contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield problems that involve several keys, each with the place of the key to change."""
    names: set[str] = set()
    for index, host in enumerate(settings.hosts):
        if host.name in names:
            yield ("hosts", index, "name"), "is the name of another host, too"
        names.add(host.name)
    places: list[tuple[Place, Remote]] = [(("remote",), settings.remote)]
    places += [
        (("hosts", index), settings.remote_for(host))
        for index, host in enumerate(settings.hosts)
        if host.model_fields_set & {"roots", "training_dirs", "eval_dirs"}
    ]
    for place, remote in places:
        if not remote.training_dirs and not remote.eval_dirs:
            yield (*place, "training_dirs"), "is empty, and so is 'eval_dirs': nothing would be watched"
        directories = remote.training_dirs + remote.eval_dirs
        for twice in sorted({name for name in directories if directories.count(name) > 1}):
            yield (*place, "training_dirs"), f"and 'eval_dirs' hold {twice!r} more than once"
        for twice in sorted({root for root in remote.roots if remote.roots.count(root) > 1}):
            yield (*place, "roots"), f"holds {twice!r} more than once"
    notify = settings.notify
    for key in ("webhook_secret", "webhook_secret_file"):
        if getattr(notify, key) is not None and notify.webhook is None:
            yield ("notify", key), "is set, and 'webhook' is not: there is nothing to sign"
