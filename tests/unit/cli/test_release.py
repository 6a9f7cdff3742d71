"""Who confirms that a box is terminated for good: a person on a terminal, or `--yes`; nobody else."""

import io
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from harvestd.cli.commands import safe
from harvestd.cli.flags import Flags
from harvestd.errors import ExitCode, Fatal
from harvestd.harvest.host import passes
from harvestd.harvest.release.release import Examined, Judge
from harvestd.inventory.host import Host
from harvestd.settings import Settings

RENTED = Host("lambda_cloud:" + "a" * 32, "gpu-a", "198.51.100.2", "lambda_cloud")


class Terminal(io.StringIO):
    """Somebody who types what is in it."""

    def isatty(self) -> bool:
        """Report a terminal."""
        return True


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the hosts that were examined; none of them is safe."""
    seen: list[str] = []

    async def hosts_of(_: Settings, names: Sequence[str]) -> list[Host]:
        assert list(names) == [RENTED.name]
        return [RENTED]

    async def examine(host: Host, _: Settings, __: Judge) -> Examined:
        seen.append(host.name)
        return Examined(hindrance="it is \x1b[31m not safe")

    monkeypatch.setattr(passes, "hosts_of", hosts_of)
    monkeypatch.setattr(safe, "examined", examine)
    monkeypatch.setattr(safe, "configure", lambda *_, **__: None)  # it is for a whole process
    return seen


def _release(tmp_path: Path, *arguments: str) -> object:
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path / "data"}"\n')
    return safe.release_command.main(
        [RENTED.name, *arguments], standalone_mode=False, obj=Flags(config=config, log_level="error")
    )


def test_a_person_who_agrees_has_it_examined(
    tmp_path: Path, examined: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The question names the box; what stands in the way is shown, escaped."""
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert _release(tmp_path) is ExitCode.NOT_SAFE
    assert examined == ["gpu-a"]
    captured = capsys.readouterr()
    assert RENTED.identity in captured.err
    assert "not safe" in captured.out
    assert "\x1b[31m" not in captured.out


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
@pytest.mark.usefixtures("examined")
def test_a_person_who_does_not_agree_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Nothing is looked at, much less terminated; no answer is no."""
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    with pytest.raises(click.Abort):
        _release(tmp_path)


def test_off_a_terminal_it_must_be_said(tmp_path: Path, examined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that does not say --yes ends nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(Fatal, match="without a terminal"):
        _release(tmp_path)
    assert examined == []
    assert _release(tmp_path, "--yes") is ExitCode.NOT_SAFE
    assert _release(tmp_path, "--dry-run") is ExitCode.NOT_SAFE
    assert examined == ["gpu-a", "gpu-a"]
