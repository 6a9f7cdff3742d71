"""The tables of the configuration file, one frozen model each, with their defaults.

A model here defines the allowed keys and their bounds; it never reads a file, a variable or a clock.
`config/harvestd.example.toml` shows each key with its default, and a test compares the two.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from harvestd.settings.types import (
    BaseUrl,
    Deadline,
    Directory,
    ExperimentName,
    Loopback,
    OwnPath,
    Pause,
    Plain,
    ProxyJump,
    Rate,
    Roots,
    Size,
    Span,
    UserName,
    WaitTime,
    at_least,
    within,
)

MIB = 1024 * 1024
DEFAULT_USER = "ubuntu"
"""The user where neither [ssh] nor the SSH configuration files name one."""
DEFAULT_IDENTITY_FILE = "~/.ssh/lambda_new"
"""The key where neither of them names one."""


class SettingsTable(BaseModel):
    """A table of the file: frozen, and an unknown key is refused."""

    # Values are hidden in pydantic's own errors, because a secret may be among them. Most models are only built within
    # `Settings`: their own validators are made when one is built alone.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, defer_build=True
    )


class Poll(SettingsTable):
    """How often hosts are scanned."""

    interval: Pause = timedelta(seconds=10)
    """The interval of scans; with push, changes arrive sooner."""
    push: bool = True
    """Have the host scan by itself in each interval, and report changes as they happen."""
    settle: WaitTime = timedelta(seconds=10)
    """An artifact without a marker or a close event is complete after being unchanged for this long."""


class Ssh(SettingsTable):
    """How to connect to hosts. Every key can be set for one host alone, in its table."""

    user: UserName | None = None
    """None: from `config_files`, else `DEFAULT_USER`."""
    port: int | None = Field(default=None, ge=1, le=65_535)
    """None: from `config_files`, else 22."""
    identity_files: tuple[OwnPath, ...] | None = None
    """Private keys, or public halves of an agent's keys, tried in this order.

    None: from `config_files`, else `DEFAULT_IDENTITY_FILE`.
    """
    identities_only: bool | None = None
    """Offer only those keys of the agent that `identity_files` name. None: from `config_files`, else no."""
    agent: bool = True
    """Also offer the keys of an agent."""
    agent_socket: OwnPath | None = None
    """The agent's socket. None: from `config_files`, else SSH_AUTH_SOCK."""
    host_keys: Literal["pin", "known_hosts"] = "pin"
    """Pin a host's key at the first connection, for each instance; or trust `known_hosts` alone."""
    known_hosts: OwnPath | None = None
    """Read where `host_keys` is "known_hosts". None: from `config_files`, else ~/.ssh/known_hosts."""
    config_files: tuple[OwnPath, ...] = ()
    """OpenSSH client configuration to honour: keys of this table take precedence over it, defaults do not."""
    proxy_jump: ProxyJump = ""
    """Jump hosts. Empty: from `config_files`, else none; "none": none, whatever the files set."""
    connect_timeout: Deadline = timedelta(seconds=15)
    """For everything from the configuration files to the end of authentication together, for each jump host as well."""
    keepalive: Deadline = timedelta(seconds=10)
    """A link without an answer to keepalives for a few times this time is dead."""


def default_identity_files(ssh: Ssh) -> tuple[Path, ...]:
    """Return the keys for where neither `ssh` nor its configuration files name one; none: ssh's own default names."""
    return () if ssh.identity_files is not None else (Path(DEFAULT_IDENTITY_FILE).expanduser(),)


class Remote(SettingsTable):
    """Where results are on a host. Every key can be set for one host alone, in its table."""

    roots: Roots = ("/home/ubuntu/localfs",)
    training_dirs: tuple[Directory, ...] = ("training_runs",)
    """Below each root: directories of training runs."""
    eval_dirs: tuple[Directory, ...] = ("eval_runs",)
    """Below each root: directories of evals."""


class Select(SettingsTable):
    """What is fetched."""

    checkpoint: Literal["none", "final", "final+latest", "all"] = "final"
    records: bool = False
    tensorboard: bool = True
    exclude: tuple[Plain, ...] = ()
    """Further patterns of paths to leave out; the first match wins."""
    include: tuple[Plain, ...] = ()
    """Patterns of further paths to fetch, below a run or eval directory; `exclude` takes precedence."""


class Limits(SettingsTable):
    """What all hosts together may use of this machine and its network link."""

    connecting: int = Field(default=16, ge=1, le=1_000)
    """Simultaneous SSH handshakes."""
    bulk_connections_per_host: int = Field(default=4, ge=1, le=16)
    memory: Annotated[Size, AfterValidator(at_least("32MiB"))] = 512 * MIB
    """Bytes in the buffers of all transfers together."""
    bandwidth: Rate = None
    """Bytes a second; None: unlimited."""
    free_space: Size = 5 * 1024 * MIB
    """Bytes: fetching pauses while fewer are free."""
    scan_time: Span = timedelta(minutes=15)
    """How long one scan of all trees of a host may take."""
    inspect_time: Span = timedelta(minutes=5)
    """How long a verdict's checks beside a host's trees may take: files elsewhere, git, GPUs, links."""
    answer_time: Annotated[Span, AfterValidator(within("15s", "1d"))] = timedelta(seconds=60)
    """A connection without progress for this long is given up, and tried again."""


class NamingRule(SettingsTable):
    """Which experiment a run belongs to: every given pattern (a glob) must match."""

    host: Plain | None = None
    run: Plain | None = None
    model: Plain | None = None
    experiment: ExperimentName

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.host is None and self.run is None and self.model is None:
            raise ValueError("needs at least one of 'host', 'run' and 'model'")
        return self


class Naming(SettingsTable):
    """The names of experiments."""

    default_experiment: ExperimentName = "baseline_training"
    rules: tuple[NamingRule, ...] = ()
    """The first match wins."""
    datasets: tuple[Plain, ...] = ()
    """Names of eval datasets beyond the built-in ones."""
    models: Mapping[Plain, Plain] = Field(default_factory=dict)
    """Further aliases: a model's short name on a host → its id on the hub."""


class Report(SettingsTable):
    """The reports that are made of an experiment."""

    pictures: bool = True
    """Run the analysis scripts when something changed, where matplotlib is installed."""


class LambdaCloud(SettingsTable):
    """Hosts from the cloud's API. Where no key is set here, the usual places are read."""

    enabled: bool = False
    api_key_file: OwnPath | None = None
    api_key: SecretStr | None = None
    """For the environment; it takes precedence over `api_key_file`."""
    base_url: BaseUrl = "https://cloud.lambda.ai/api/v1"
    interval: Pause = timedelta(seconds=60)


class Targets(SettingsTable):
    """Hosts in target files of other programs, in Prometheus's format (file_sd)."""

    files: tuple[OwnPath, ...] = ()
    """JSON or YAML, by their suffix. The daemon follows their changes; one may not exist yet."""


class Api(SettingsTable):
    """The API of a running daemon."""

    socket: bool = True
    """Listen on the Unix socket `api.sock` in the state directory, for the daemon's own user."""
    listen: Loopback = ""
    """Listen at this address as well; empty: nowhere."""
    token_file: OwnPath | None = None
    """Holds the token that a client at `listen` must send; None: clients need none, and may only read."""


class Jobs(SettingsTable):
    """The launcher of remote evals on this machine: one file for each of its jobs."""

    directory: OwnPath = Path("~/.lambda_eval_jobs")
    watch: bool = True
    """Have the daemon record in the file of a finished job when all of its results are here, and where."""


Loss = Literal[
    "checkpoints",
    "evaluated_checkpoints",
    "records",
    "rollouts",
    "wandb",
    "links",
    "outside_files",
    "uncommitted_work",
]
"""What is lost with a host; the values are those of `LossKind`."""


class Verdict(SettingsTable):
    """When a host may be terminated."""

    idle_for: WaitTime = timedelta(minutes=15)
    """No change for this long, by the local clock."""
    accept_loss: tuple[Loss, ...] = ()
    """Losses that do not prevent "safe"."""
    ignore_programs: tuple[Plain, ...] = ()
    """Names of programs that transfer files for the machine itself, and do not prevent "safe"."""


class Release(SettingsTable):
    """Whether the daemon itself terminates hosts."""

    terminate: Literal["never", "dry-run", "when-drained"] = "never"
    only: tuple[Plain, ...] = ()
    """Names of the hosts that the daemon may release."""
    grace: WaitTime = timedelta(minutes=10)
    """How long a verdict of "safe" must hold first."""
    at_most_per_hour: int = Field(default=2, ge=1, le=1_000)
