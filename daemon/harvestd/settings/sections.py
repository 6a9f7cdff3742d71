"""The tables of the configuration file, one frozen model each, with the defaults that hold where nothing is written.

A model here says what may be written and within which bounds; it never reads a file, a variable or a clock.
`config/harvestd.example.toml` shows each key with its default, and a test holds the two together.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from harvestd.settings.types import (
    BaseUrl,
    Directory,
    ExperimentName,
    Loopback,
    OwnPath,
    Plain,
    ProxyJump,
    Roots,
    UserName,
)
from harvestd.settings.units import Deadline, Patience, Pause, Rate, Size, Span, at_least, within

MIB = 1024 * 1024
DEFAULT_USER = "ubuntu"
"""Where neither [ssh] nor the SSH configuration files name a user."""
DEFAULT_IDENTITY_FILE = "~/.ssh/lambda_new"
"""Where neither of them names a key."""


class Section(BaseModel):
    """A table of the file: frozen, and a key that it does not know is refused."""

    # Values are hidden in pydantic's own errors, because a secret may be among them.
    # Most are only ever built within `Settings`: their own validators are made when somebody makes one alone.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, defer_build=True
    )


class Poll(Section):
    """How often boxes are looked at."""

    interval: Pause = timedelta(seconds=10)
    """The backstop; with push, changes arrive sooner."""
    push: bool = True
    """Let the box say when something changed."""
    settle: Patience = timedelta(seconds=10)
    """An artifact without a marker or a close event is complete when it was quiet for this long."""


class Ssh(Section):
    """How boxes are reached. Every key can be given for one host alone, in its table."""

    user: UserName | None = None
    """None: as `config_files` say, else `DEFAULT_USER`."""
    port: int | None = Field(default=None, ge=1, le=65_535)
    """None: as `config_files` say, else 22."""
    identity_files: tuple[OwnPath, ...] | None = None
    """Private keys, or public halves of an agent's keys, tried in this order. None: as `config_files` say, else
    `DEFAULT_IDENTITY_FILE`."""
    identities_only: bool | None = None
    """Of the agent's keys offer only those that `identity_files` name. None: as `config_files` say, else no."""
    agent: bool = True
    """Also offer the keys of an agent."""
    agent_socket: OwnPath | None = None
    """Where the agent listens. None: as `config_files` say, else SSH_AUTH_SOCK."""
    host_keys: Literal["pin", "known_hosts"] = "pin"
    """Pin a box's key at first sight, for each instance; or trust `known_hosts` alone."""
    known_hosts: OwnPath | None = None
    """Read where `host_keys` is "known_hosts". None: as `config_files` say, else ~/.ssh/known_hosts."""
    config_files: tuple[OwnPath, ...] = ()
    """OpenSSH client configuration to honour: what is written in this table stands above it, a default below."""
    proxy_jump: ProxyJump = ""
    """Hosts on the way. Empty: as `config_files` say, else none; "none": none, whatever they say."""
    connect_timeout: Deadline = timedelta(seconds=15)
    """For everything from the configuration files to the end of authentication together, for each host on the way."""
    keepalive: Deadline = timedelta(seconds=10)
    """A link that is silent for a few of these is dead."""


def default_identity_files(ssh: Ssh) -> tuple[Path, ...]:
    """Return the keys for where neither `ssh` nor its configuration files name one; none: ssh's own default names."""
    return () if ssh.identity_files is not None else (Path(DEFAULT_IDENTITY_FILE).expanduser(),)


class Remote(Section):
    """Where results lie on a box. Every key can be given for one host alone, in its table."""

    roots: Roots = ("/home/ubuntu/localfs",)
    training_dirs: tuple[Directory, ...] = ("training_runs",)
    """Below each root: directories of training runs."""
    eval_dirs: tuple[Directory, ...] = ("eval_runs",)
    """Below each root: directories of evals."""


class Select(Section):
    """What is fetched."""

    checkpoint: Literal["none", "final", "final+latest", "all"] = "final"
    records: bool = False
    tensorboard: bool = True
    exclude: tuple[Plain, ...] = ()
    """Further patterns of what to leave out; the first match wins."""
    include: tuple[Plain, ...] = ()
    """Patterns of what else to fetch, on paths below a run or eval directory; `exclude` goes before."""


class Limits(Section):
    """What all hosts together may use of this machine and its line."""

    connecting: int = Field(default=16, ge=1, le=1_000)
    """SSH handshakes at once."""
    bulk_connections_per_host: int = Field(default=4, ge=1, le=16)
    memory: Annotated[Size, AfterValidator(at_least("32MiB"))] = 512 * MIB
    """Bytes in the buffers of all transfers together."""
    bandwidth: Rate = None
    """Bytes a second; None: unlimited."""
    free_space: Size = 5 * 1024 * MIB
    """Bytes: fetching stops while fewer are free."""
    scan_time: Span = timedelta(minutes=15)
    """How long one scan of all trees of a host may take."""
    inspect_time: Span = timedelta(minutes=5)
    """How long a host may take for what a verdict asks beside its trees: files elsewhere, git, GPUs, links."""
    answer_time: Annotated[Span, AfterValidator(within("15s", "1d"))] = timedelta(seconds=60)
    """A host that shows no progress for this long is given up, and tried again."""


class NamingRule(Section):
    """Which experiment a run belongs to: every pattern that is given (a glob) must match."""

    host: Plain | None = None
    run: Plain | None = None
    model: Plain | None = None
    experiment: ExperimentName

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.host is None and self.run is None and self.model is None:
            raise ValueError("needs at least one of 'host', 'run' and 'model'")
        return self


class Naming(Section):
    """How experiments are called."""

    default_experiment: ExperimentName = "baseline_training"
    rules: tuple[NamingRule, ...] = ()
    """The first that matches wins."""
    datasets: tuple[Plain, ...] = ()
    """Names of eval datasets beyond those that are built in."""
    models: Mapping[Plain, Plain] = Field(default_factory=dict)
    """Further aliases: a model's short name on a box → its id on the hub."""


class Report(Section):
    """What is made of an experiment for people to look at."""

    pictures: bool = True
    """Run the analysis scripts when something changed, where matplotlib is installed."""


class LambdaCloud(Section):
    """Hosts that the cloud's API names. Where no key stands here, the usual places are asked."""

    enabled: bool = False
    api_key_file: OwnPath | None = None
    api_key: SecretStr | None = None
    """For the environment; it goes before `api_key_file`."""
    base_url: BaseUrl = "https://cloud.lambda.ai/api/v1"
    interval: Pause = timedelta(seconds=60)


class Targets(Section):
    """Hosts that other programs write down, in files of targets as Prometheus reads them (file_sd)."""

    files: tuple[OwnPath, ...] = ()
    """JSON or YAML, by their ending. Each is followed while the daemon runs; one may be missing yet."""


class Api(Section):
    """How a running daemon is asked."""

    socket: bool = True
    """Listen on the Unix socket `api.sock` in the state directory, for the daemon's own user."""
    listen: Loopback = ""
    """Listen here as well; empty: nowhere."""
    token_file: OwnPath | None = None
    """Holds what whoever asks at `listen` must show; None: they need nothing, and may only read."""


class Jobs(Section):
    """The launcher of remote evals on this machine: one file for each of its jobs."""

    directory: OwnPath = Path("~/.lambda_eval_jobs")
    watch: bool = True
    """Have the daemon note in the file of a finished job when all of its results are here, and where."""


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
"""What ends with a host; the words are those of `LossKind`."""


class Verdict(Section):
    """When a box may be switched off."""

    idle_for: Patience = timedelta(minutes=15)
    """Nothing moved for this long, on our clock."""
    accept_loss: tuple[Loss, ...] = ()
    """Losses that do not stand in the way of "safe"."""
    ignore_programs: tuple[Plain, ...] = ()
    """Names of programs that carry files for the machine itself, and do not stand in the way of "safe"."""


class Release(Section):
    """Whether the daemon itself switches boxes off."""

    terminate: Literal["never", "dry-run", "when-drained"] = "never"
    only: tuple[Plain, ...] = ()
    """Names of the hosts that the daemon may release."""
    grace: Patience = timedelta(minutes=10)
    """How long a verdict of "safe" must stand first."""
    at_most_per_hour: int = Field(default=2, ge=1, le=1_000)
