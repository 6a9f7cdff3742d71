"""Programs that carry files, as the program on the host tells them from a /proc that is made up here."""

import json
import os
from pathlib import Path

import pytest

from harvestd.remote.probe.program import carriers
from harvestd.remote.probe.program.carriers import at_work, carriers_now
from harvestd.remote.probe.program.sessions import processes_now
from unit.remote.test_program_sessions import OUR_CONNECTION, QUIET, proc


class Host:
    """A made-up /proc with some programs, and a root."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "localfs"
        self.root.mkdir()
        self.kept: dict[tuple[int, int], float] = {}

    def run(self, pid: int, name: str, *command: str, parent: int = 1, variables: dict[str, str] | None = None) -> None:
        """Have a process run that moved some bytes."""
        words = "".join(f"{word}\0" for word in (command or (name,)))
        proc(self.place / "proc", (pid, parent, 0, name), commands={pid: words.encode()})
        (self.place / f"proc/{pid}/fd").mkdir()
        (self.place / f"proc/{pid}/cwd").symlink_to(self.place)
        text = "".join(f"{key}={value}\0" for key, value in (variables or {}).items())
        (self.place / f"proc/{pid}/environ").write_text(text)
        self.moves(pid, 100)

    def moves(self, pid: int, count: int) -> None:
        """Have it moved so many bytes in all."""
        fields = {"rchar": count, "wchar": 1, "syscr": 1, "syscw": 1, "read_bytes": 0, "write_bytes": 0}
        text = "".join(f"{name}: {number}\n" for name, number in fields.items())
        (self.place / f"proc/{pid}/io").write_text(text)

    def opens(self, pid: int, target: str) -> None:
        """Have it open a file."""
        (self.place / f"proc/{pid}/fd/{len(list((self.place / f'proc/{pid}/fd').iterdir()))}").symlink_to(target)

    def told(self, **moved: int) -> list[list[object]]:
        """Return what carries files, if processes (`p70=…`) have moved so many bytes meanwhile."""
        place = str(self.place / "proc")
        found = carriers_now(processes_now(place), place)
        for name, count in moved.items():
            self.moves(int(name[1:]), count)
        told = at_work(found, [os.fsencode(self.root)], self.kept)
        assert told["transfers"] == len(told["carriers"])
        rows: list[list[object]] = told["carriers"]
        return rows


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a host on which nothing but our own connection is at work."""
    proc(tmp_path / "proc", *QUIET, *OUR_CONNECTION)
    return Host(tmp_path)


def test_processes_that_are_hidden_are_unknown() -> None:
    """Nothing is said of programs then."""
    assert carriers_now(None) is None
    assert at_work(None, [], {}) == {"transfers": None, "carriers": []}


@pytest.mark.parametrize(
    ("parent", "name", "command", "program"),
    [
        (50, "sftp-server", ["/usr/lib/openssh/sftp-server"], "sftp-server"),
        (50, "scp", ["scp", "-t", "/data"], "scp"),
        (1, "rsync", ["rsync", "--server"], "rsync"),
        (1, "huggingface-cli", ["huggingface-cli", "upload"], "huggingface-cli"),
        (1, "python3.11", ["/usr/bin/python3.11", "/usr/local/bin/aws", "s3", "cp"], "aws"),
        (50, "sshd", ["sshd: ubuntu@internal-sftp"], "internal-sftp"),
        (1, "python3", ["python3", "train.py", "--scp"], None),
        (50, "sshd", ["sshd: ubuntu@notty"], None),
        (1, "rsyncd-watch", ["rsyncd-watch"], None),
    ],
)
def test_programs_are_known_by_name_and_count_while_they_move_bytes(
    host: Host, parent: int, name: str, command: list[str], program: str | None
) -> None:
    """One that Python runs is known by its script; our own never count; one that moves nothing does not either."""
    host.run(70, name, *command, parent=parent)
    assert host.told() == []
    assert host.told(p70=200) == ([[program, 70, "moves"]] if program else [])


def test_one_that_moved_bytes_counts_for_a_while_longer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may only wait for the other side; a process that has ended is forgotten."""
    host.run(70, "rclone", "rclone", "copy", "/a", "remote:b")
    assert host.told(p70=200) == host.told() == [["rclone", 70, "moves"]]
    monkeypatch.setattr(carriers, "LATELY_SECONDS", -1.0)
    assert host.told() == []
    (host.place / "proc/70/stat").unlink()
    assert host.told() == []
    assert host.kept == {}


def test_an_open_file_below_a_root_counts(host: Host) -> None:
    """However slowly it goes; a file elsewhere does not."""
    host.run(70, "rsync")
    host.opens(70, "/var/log/rsync.log")
    assert host.told() == []
    host.opens(70, f"{host.root}/training_runs/run/model")
    assert host.told() == [["rsync", 70, "open"]]


def test_what_a_process_does_may_be_hidden(host: Host) -> None:
    """Then it counts."""
    host.run(70, "rsync")
    (host.place / "proc/70/io").unlink()
    assert host.told() == [["rsync", 70, "unknown"]]


@pytest.mark.parametrize("where", ["option", "one word", "variable", "cache home", "home", "relative"])
def test_a_mount_counts_while_its_cache_holds_unsent_data(host: Host, where: str) -> None:
    """By the notes that rclone keeps itself, wherever its cache is; that it moves bytes says nothing."""
    base = {"cache home": "rclone", "home": ".cache/rclone"}.get(where, "")
    cache = host.place / "cache" / base
    words = {
        "option": ["--cache-dir", str(cache)],
        "one word": [f"--cache-dir={cache}"],
        "relative": ["--cache-dir", "cache"],
    }.get(where, [])
    variables = {
        "variable": {"RCLONE_CACHE_DIR": str(cache)},
        "cache home": {"XDG_CACHE_HOME": str(host.place / "cache")},
        "home": {"HOME": str(host.place / "cache")},
    }.get(where, {})
    host.run(70, "rclone", "rclone", "mount", "s3:bucket", "/mnt/bucket", *words, "--daemon", variables=variables)
    assert host.told(p70=200) == []
    note = cache / "vfsMeta/s3/bucket/a/file"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"Size": 3, "Dirty": False}))
    assert host.told(p70=300) == []
    note.write_text(json.dumps({"Size": 3, "Dirty": True}))
    assert host.told() == [["rclone", 70, "unsent"]]
    note.write_text("{")
    assert host.told() == [["rclone", 70, "unknown"]]


def test_a_mount_of_which_nothing_is_shown_is_unknown(host: Host) -> None:
    """Another user's environment can't be read, and with it not where the cache is."""
    host.run(70, "rclone", "rclone", "mount", "s3:bucket", "/mnt/bucket")
    (host.place / "proc/70/environ").unlink()
    assert host.told() == [["rclone", 70, "unknown"]]
