"""The group of commands, its flags, and how every command ends."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harvestd import __version__
from harvestd.cli.app import COMMANDS, app
from harvestd.cli.errors import ended
from harvestd.cli.flags import Flags, with_flags
from harvestd.errors import DiskFull, ExitCode, Fatal, HaltedForSafety, HarvestError, HostQuarantined, Retry
from harvestd.settings import InvalidSettings, Problem
from support.command import environment

HEAVY = ("asyncssh", "sqlalchemy", "pydantic", "structlog", "rich", "anyio", "alembic", "yaml", "asyncio")


def raising(error: BaseException) -> Callable[[], object]:
    """Return work that ends with `error`."""

    def work() -> object:
        raise error

    return work


@pytest.mark.parametrize("name", list(COMMANDS))
def test_list_says_what_the_command_says(name: str) -> None:
    """The line in the list of commands is the beginning of the command's own help, and fits a terminal."""
    command = app.get_command(click.Context(app), name)
    assert command is not None
    summary = COMMANDS[name].summary
    assert (command.help or "").splitlines()[0].startswith(summary.rstrip("."))
    assert len(name) + len(summary) < 76


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_nothing_heavy(argument: str) -> None:
    """The list of commands and the version come at once: no SSH, no database, no validation is imported for them."""
    script = (
        "import sys, json\n"
        "from harvestd.cli.app import app\n"
        f"app.main(['{argument}'], prog_name='harvestd', standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=30)
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr)}
    assert not loaded & set(HEAVY)
    assert ("Commands:" if argument == "--help" else __version__) in done.stdout


def test_nothing_of_an_answer_is_lost_at_the_end() -> None:
    """The process ends at once with its code, and what was written until then is out, after an error as well."""
    script = (
        "import sys\n"
        "from harvestd import __main__\n"
        "__main__.ended = lambda work: sys.stdout.write('half an answer') and 3\n"
        "__main__.main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, "half an answer", "")


def test_flags_before_and_after_the_name() -> None:
    """Flags count before and after a command's name; the later one wins, and --set adds up."""
    seen: list[Flags] = []

    @click.group
    @with_flags
    def group() -> None:
        """Take flags."""

    @group.command
    @with_flags
    @click.pass_obj
    def once(flags: Flags) -> None:
        """Take them too."""
        seen.append(flags)

    def flags_of(line: str) -> Flags:
        assert CliRunner().invoke(group, line.split(), catch_exceptions=False).exit_code == 0
        return seen[-1]

    assert flags_of("once") == Flags()
    assert flags_of("-c a once") == flags_of("once --config a") == flags_of("-c b once -c a") == Flags(Path("a"))
    flags = flags_of("--set a.b=1 --log-level error once --set c==2 --set a.b=3 --log-format json")
    assert flags == Flags(None, "error", "json", {"a.b": "3", "c": "=2"})


@pytest.mark.parametrize("pair", ["poll.interval", "=5s"])
def test_set_needs_key_and_value(pair: str) -> None:
    """What is no KEY=VALUE is refused with an example."""
    result = CliRunner().invoke(app, ["--set", pair, "check"])
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "such as poll.interval=5s" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Fatal("no"), ExitCode.CONFIGURATION),
        (Fatal("no", exit_code=ExitCode.LOCKED), ExitCode.LOCKED),
        (DiskFull("no"), ExitCode.DISK_FULL),
        (HaltedForSafety("no"), ExitCode.PARTIAL),
        (HostQuarantined("no"), ExitCode.PARTIAL),
        (Retry("no"), ExitCode.PARTIAL),
        (click.UsageError("no"), ExitCode.CONFIGURATION),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    """Each class of error ends the process with the code that is promised, and says `error:` on standard error."""
    assert ended(raising(error)) == code
    assert capsys.readouterr() == ("", "error: no\n")


def test_way_out_follows_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An error's hint stands on a line of its own."""
    ended(raising(Retry("the link is lost", hint="wait")))
    assert capsys.readouterr().err == "error: the link is lost\nhint: wait\n"


def test_every_problem_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration's problems stand one a line, each with its file, key, reason and way out."""
    problems = [Problem("f.toml", "poll.x", "is not a known key", "did you mean y?"), Problem("f.toml", "b", "is bad")]
    assert ended(raising(InvalidSettings(problems))) == ExitCode.CONFIGURATION
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "error: the configuration has 2 problems:"
    assert lines[1:] == ["f.toml: poll.x: is not a known key (did you mean y?)", "f.toml: b: is bad"]


def test_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """What an error quotes of a box can neither move the cursor nor begin a line that looks like ours."""
    error: HarvestError = HostQuarantined("it said \x1b[2J\nhint: run this", hint="a\x07")
    ended(raising(error))
    assert capsys.readouterr().err == "error: it said \\x1b[2J\\nhint: run this\nhint: a\\x07\n"


def test_interruption_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with 130 and without a traceback."""
    assert ended(raising(click.Abort())) == 130
    assert capsys.readouterr() == ("", "")


def test_bug_is_not_hidden() -> None:
    """What is no error of ours goes through: a bug has a traceback."""
    with pytest.raises(ZeroDivisionError):
        ended(raising(ZeroDivisionError()))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["frob"], "error: No such command 'frob'.\nhint: see `harvestd --help`\n"),
        (["once", "--nope"], "hint: see `harvestd once --help`\n"),
        (["show"], "error: Missing argument 'NAME'.\nhint: see `harvestd show --help`\n"),
    ],
)
def test_usage_errors_look_like_all_others(line: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is an error with a way out, and ends with 2."""
    code = ended(lambda: app.main(line, prog_name="harvestd", standalone_mode=False))
    assert code == ExitCode.CONFIGURATION
    assert capsys.readouterr().err.endswith(expected)


def test_without_a_command_the_list_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`harvestd` alone shows what there is, as a usage error."""
    assert ended(lambda: app.main([], prog_name="harvestd", standalone_mode=False)) == ExitCode.CONFIGURATION
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: harvestd")
    assert "forget-key" in shown
