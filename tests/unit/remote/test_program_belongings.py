"""What people keep beside the watched trees, as the program on the box finds it, and what git says of checkouts."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harvestd.remote.probe.program import belongings, checkouts, circumstances, facts
from harvestd.remote.probe.program.wire import Credit, Output, Wire

LATELY = 3600.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home directory with a root in it."""
    (tmp_path / "home/localfs/training_runs").mkdir(parents=True)
    (tmp_path / "home/localfs/eval_runs").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # No settings of whoever runs the tests, and a name to commit by.
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    return tmp_path / "home"


def write(place: Path, content: bytes = b"x") -> Path:
    """Write a file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def walked(home: Path, *elsewhere: Path) -> tuple[belongings.Walk, belongings.Walk]:
    """Look through a home directory and further places."""
    root = str(home / "localfs")
    request: dict[str, Any] = {
        "trees": [[root, "training_runs"], [root, "eval_runs"]],
        "lately": LATELY,
        "seconds": 300.0,
    }
    return belongings.walked(request, [str(place) for place in elsewhere])


def outside(home: Path, *elsewhere: Path) -> tuple[set[str], bool]:
    """Return what is found outside, relative to the home directory's parent, and whether all was looked through."""
    near, far = walked(home, *elsewhere)
    checkouts.checkouts(near, 100.0)
    told = belongings.outside(near, far)
    assert told["files"] == len(told["newest"])
    return {str(Path(place).relative_to(home.parent)) for place in told["newest"]}, told["whole"]


def git(place: Path, *words: str) -> None:
    """Run git for a test."""
    subprocess.run(["git", *words], cwd=place, check=True, capture_output=True)


def repository(place: Path, *, pushed: bool = True) -> Path:
    """Make a checkout with one commit, which a remote branch holds as well or not."""
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    write(place / "train.py")
    write(place / ".gitignore", b"outputs/\n")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "first")
    if pushed:
        git(place, "update-ref", "refs/remotes/origin/main", "HEAD")
    return place


def test_files_outside_the_trees_are_found(home: Path) -> None:
    """At home and in a root, at any depth; never what lies in a watched tree."""
    write(home / "notes.md")
    write(home / "work/deep/er/data.bin")
    write(home / "localfs/beside.txt")
    write(home / "localfs/training_runs/run/config.yaml")
    write(home / "localfs/eval_runs/run/metrics.csv")
    assert outside(home) == ({"home/notes.md", "home/work/deep/er/data.bin", "home/localfs/beside.txt"}, True)


@pytest.mark.parametrize(
    "place",
    [
        ".cache/huggingface/model.bin",
        ".local/share/x",
        ".vscode-server/bin/x",
        ".nv/x",
        ".triton/x",
        ".ssh/known_hosts",
        ".bash_history",
        "code/__pycache__/a.pyc",
        "code/node_modules/a/index.js",
        "code/.venv/lib/a.py",
        "miniconda3/bin/python",
        "code/wandb/run-1/files/x",
        "code/wandb/debug.log",
    ],
)
def test_litter_is_left_out(home: Path, place: str) -> None:
    """Caches, installed packages and what shells and tools keep for themselves are no loss."""
    write(home / place)
    assert outside(home) == (set(), True)


def test_an_environment_is_known_by_what_marks_it(home: Path) -> None:
    """What was installed beside a marker is left out, a person's own file there is not."""
    write(home / "project/pyvenv.cfg")
    write(home / "project/lib/python3/site.py")
    write(home / "project/mine.py")
    assert outside(home)[0] == {"home/project/pyvenv.cfg", "home/project/mine.py"}


def test_what_wandb_did_not_upload_is_found(home: Path) -> None:
    """A run that was logged offline is nowhere else."""
    write(home / "code/wandb/offline-run-1/run.wandb")
    assert outside(home)[0] == {"home/code/wandb/offline-run-1/run.wandb"}


def test_old_files_are_no_news(home: Path) -> None:
    """What last changed before the time asked for is left out; a copy of something old was put there just now."""
    write(home / "copied.bin")
    os.utime(home / "copied.bin", (1, 1))
    root = str(home / "localfs")
    near, far = belongings.walked({"trees": [[root, "training_runs"]], "lately": LATELY, "seconds": 300.0}, [])
    assert belongings.outside(near, far)["files"] == 1
    later = belongings.Walk(int((time.time() + 10) * 10**9), set(), 100.0)
    later.place(os.fsencode(home))
    assert belongings.outside(later, later)["files"] == 0


def test_no_link_is_followed_and_only_regular_files_count(home: Path, tmp_path: Path) -> None:
    """Links, FIFOs and loops are passed by."""
    write(tmp_path / "far/secret")
    (home / "far").symlink_to(tmp_path / "far")
    (home / "loop").symlink_to(home)
    os.mkfifo(home / "fifo")
    assert outside(home) == (set(), True)


def test_places_that_people_use_beside_their_home_are_looked_through(home: Path, tmp_path: Path) -> None:
    """What is the user's there is found, scratch of sessions is not, and what is missing holds nothing."""
    write(tmp_path / "workspace/a.bin")
    write(tmp_path / "workspace/torchinductor_me/b.bin")
    write(tmp_path / "workspace/pymp-1/c.bin")
    write(home / "torch_models/d.bin")
    found, whole = outside(home, tmp_path / "workspace", tmp_path / "missing")
    assert (found, whole) == ({"workspace/a.bin", "home/torch_models/d.bin"}, True)


def test_farther_places_that_nobody_came_to_are_not_known(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time is over before all of them were looked through, results may lie there all the same."""
    write(tmp_path / "workspace/results.bin")
    assert outside(home, tmp_path / "workspace") == ({"workspace/results.bin"}, True)
    monkeypatch.setattr(belongings, "FAR_SHARE", -1.0)
    assert outside(home, tmp_path / "workspace") == (set(), False)


def test_of_thousands_the_newest_are_told(home: Path) -> None:
    """All are counted; twenty are named."""
    for n in range(60):
        write(home / f"many/{n}", b"12")
    told = belongings.outside(*walked(home))
    assert (told["files"], told["size"], len(told["newest"])) == (60, 120, 20)


def test_too_much_to_look_through_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of entries, or the time, not all was seen: then checkouts are unknown too."""
    for n in range(60):
        write(home / f"many/{n}/a")
    monkeypatch.setattr(belongings, "WALK_ENTRIES", 30)
    near, far = walked(home)
    assert not belongings.outside(near, far)["whole"]
    assert belongings.outside(near, far)["missed"].endswith("lies behind 30 directories and files that changed lately")
    assert checkouts.checkouts(near, 100.0) == (None, near.missed)
    in_no_time = belongings.Walk(0, set(), seconds=-1.0)
    in_no_time.place(os.fsencode(home))
    assert not in_no_time.whole


def held(home: Path) -> list[list[Any]] | None:
    """Return what the checkouts at home hold."""
    return checkouts.checkouts(walked(home)[0], 100.0)[0]


def test_a_checkout_in_order_is_no_loss(home: Path) -> None:
    """What remote branches hold, with nothing changed, is told of neither as a checkout nor as files."""
    repository(home / "code")
    assert held(home) == []
    assert outside(home) == (set(), True)


def test_uncommitted_and_unpushed_work_is_told(home: Path) -> None:
    """Changed and unknown files, commits and stashes that no remote branch holds; each checkout by its place."""
    repository(home / "own", pushed=False)
    edited = repository(home / "a/edited")
    write(edited / "train.py", b"better")
    write(edited / "new.py")
    ahead = repository(home / "localfs/ahead")
    git(ahead, "commit", "-q", "--allow-empty", "-m", "second")
    stashed = repository(home / "stashed")
    write(stashed / "train.py", b"stashed")
    git(stashed, "stash", "-q")
    (home / "empty").mkdir()
    git(home / "empty", "init", "-q")
    told = held(home)
    assert told is not None
    assert sorted(told) == [
        [str(home / "a/edited"), 2, 0],
        [str(ahead), 0, 1],
        [str(home / "own"), 0, 1],
        [str(stashed), 0, 2],
    ]


def test_a_checkout_that_git_cannot_read_is_told(home: Path) -> None:
    """It may hold anything; and what only bears the name of one holds files."""
    broken = repository(home / "broken")
    (broken / ".git/HEAD").write_bytes(b"garbage")
    write(home / "worktree/.git", b"gitdir: /gone\n")
    (home / "name/.git").mkdir(parents=True)
    told = held(home)
    assert told is not None
    assert sorted(told) == [[str(broken), 1, 0], [str(home / "worktree"), 1, 0]]
    assert outside(home)[0] == {"home/broken/train.py", "home/broken/.gitignore"}


def test_what_git_ignores_counts_as_a_file(home: Path) -> None:
    """Git says nothing of it, and it would be lost with the box."""
    write(repository(home / "code") / "outputs/result.bin")
    assert held(home) == []
    assert outside(home)[0] == {"home/code/outputs/result.bin"}


def test_checkouts_that_lie_deep_are_files(home: Path) -> None:
    """Below the depth that is searched, what changed in a checkout counts as files."""
    repository(home / "1/2/3/4/5/code")
    assert held(home) == []
    assert outside(home)[0] == {"home/1/2/3/4/5/code/train.py", "home/1/2/3/4/5/code/.gitignore"}


def state_of(place: Path) -> dict[str, tuple[object, ...]]:
    """Return all that could be changed of a tree: kinds, contents and times."""
    state: dict[str, tuple[object, ...]] = {}
    for path in sorted([place, *place.rglob("*")]):
        s = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        state[str(path)] = (s.st_mode, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, content)
    return state


def test_nothing_is_modified_and_nothing_of_a_checkout_is_run(home: Path, tmp_path: Path) -> None:
    """An index that is behind is not refreshed; no hook, watcher or filter starts, whatever the checkout asks for."""
    code = repository(home / "code")
    trap = write(tmp_path / "trap", f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n".encode())
    trap.chmod(0o755)
    write(code / ".gitattributes", b"*.py filter=trap\n")
    for name in ("clean", "process"):
        git(code, "config", f"filter.trap.{name}", str(trap))
    git(code, "config", "core.fsmonitor", str(trap))
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        write(code / f".git/hooks/{hook}", trap.read_bytes()).chmod(0o755)
    write(home / ".gitconfig", f"[trace2]\n\teventTarget = {tmp_path}/traced\n".encode())
    # Its times say that it may have changed, so that git has to read it, and would like to note that it did not.
    os.utime(code / "train.py", ns=(10**18, 10**18))
    before = state_of(home)
    told = held(home)
    assert told is not None
    assert [row[0] for row in told] == [str(code)]
    assert state_of(home) == before
    assert not [each for each in ("sprung", "traced") if (tmp_path / each).exists()]
    git(code, "status")
    assert [each for each in ("sprung", "traced") if (tmp_path / each).exists()] == ["sprung", "traced"]


def test_what_differs_is_told_as_git_status_tells_it(home: Path) -> None:
    """Content decides where times differ; modes, links and staged entries count, what is left out does not."""
    touched = repository(home / "touched")
    os.utime(touched / "train.py", ns=(10**18, 10**18))
    rewritten = repository(home / "rewritten")
    before = (rewritten / "train.py").stat()
    (rewritten / "train.py").write_bytes(b"y")
    os.utime(rewritten / "train.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    mode = repository(home / "mode")
    (mode / "train.py").chmod(0o755)
    no_modes = repository(home / "no_modes")
    git(no_modes, "config", "core.fileMode", "false")
    (no_modes / "train.py").chmod(0o755)
    staged = repository(home / "staged")
    write(staged / "train.py", b"one")
    git(staged, "add", ".")
    write(staged / "train.py", b"two")
    link = repository(home / "link")
    (link / "to").symlink_to("here")
    git(link, "add", ".")
    git(link, "commit", "-q", "-m", "link")
    git(link, "update-ref", "refs/remotes/origin/main", "HEAD")
    (link / "to").unlink()
    (link / "to").symlink_to("heer")
    gone = repository(home / "gone")
    (gone / "train.py").unlink()
    sparse = repository(home / "sparse")
    git(sparse, "update-index", "--skip-worktree", "train.py")
    (sparse / "train.py").unlink()
    replaced = repository(home / "replaced")
    (replaced / "train.py").unlink()
    (replaced / "train.py").mkdir()
    told = held(home)
    assert told is not None
    changed = ("gone", "link", "mode", "replaced", "rewritten", "staged")
    assert sorted(told) == [[str(home / name), 1, 0] for name in changed]


def test_a_checkout_of_too_many_files_is_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of it is bounded in number and bytes; files that can't all be hashed count as changed."""
    code = repository(home / "code")
    for name, value in (("MOST_TRACKED", 1), ("TRACKED_BYTES", 3)):
        with monkeypatch.context() as patched:
            patched.setattr(checkouts, name, value)
            told, why = checkouts.checkouts(walked(home)[0], 100.0)
            assert told is None
            assert str(code) in why
    for name in ("train.py", ".gitignore"):
        os.utime(code / name, ns=(10**18, 10**18))
    assert held(home) == []
    monkeypatch.setattr(checkouts, "HASHED_BYTES", 1)
    assert held(home) == [[str(code), 1, 0]]


def test_a_submodule_at_another_commit_is_a_change(home: Path, tmp_path: Path) -> None:
    """The commit itself is counted in the submodule."""
    source = repository(tmp_path / "source")
    code = repository(home / "code")
    git(code, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(source), "part")
    git(code, "commit", "-q", "-m", "part")
    git(code, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert held(home) == []
    git(code / "part", "commit", "-q", "--allow-empty", "-m", "ahead")
    told = held(home)
    assert told is not None
    assert sorted(told) == [[str(code), 1, 0], [str(code / "part"), 0, 1]]


def test_a_git_that_does_not_check_owners_is_asked_about_plain_own_repositories_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is there counts as something at stake."""
    wrapper = write(tmp_path / "bin/git", b'#!/bin/sh\nfor w; do :; done\n[ "$w" = version ] || exec git "$@"\n')
    wrapper.write_bytes(wrapper.read_bytes() + b"echo git version 2.25.1\n")
    wrapper.chmod(0o755)
    monkeypatch.setattr(checkouts, "git_program", lambda: str(wrapper))
    own = repository(home / "own")
    elsewhere = repository(home / "elsewhere")
    (elsewhere / ".git").rename(tmp_path / "moved")
    (elsewhere / ".git").symlink_to(tmp_path / "moved")
    assert held(home) == [[str(elsewhere), 1, 0]]
    assert own.is_dir()


def test_without_git_checkouts_are_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there is none: then nothing of any can be lost."""
    monkeypatch.setattr(checkouts, "git_program", lambda: "")
    assert held(home) == []
    (home / "code/.git").mkdir(parents=True)
    assert held(home) is None


@pytest.mark.parametrize("says", ["sleep 100", "while :; do echo 0123456789; done"])
def test_a_git_that_hangs_or_never_ends_is_given_up(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """Then nobody can tell; and it does not stay behind."""
    program = write(tmp_path / "bin/git", f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{says}\n".encode())
    program.chmod(0o755)
    monkeypatch.setattr(checkouts, "git_program", lambda: str(program))
    monkeypatch.setattr(checkouts, "GIT_BYTES", 1024 * 1024)
    (home / "code/.git").mkdir(parents=True)
    told, why = checkouts.checkouts(walked(home)[0], 1.0)
    assert told is None
    assert str(home / "code") in why
    assert "limits.inspect_time" in why or "more than is looked at" in why
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_too_many_checkouts_are_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more hold work than are told; how many are in order is no matter."""
    monkeypatch.setattr(checkouts, "CHECKOUTS", 1)
    for name in ("a", "b"):
        repository(home / name)
    assert held(home) == []
    for name in ("c", "d"):
        repository(home / name, pushed=False)
    told, why = checkouts.checkouts(walked(home)[0], 100.0)
    assert told is None
    assert "more than 1 of them" in why


def test_devices_are_those_of_roots_that_are_there(home: Path) -> None:
    """A root may be a link, and has no device where it is not there."""
    (home / "link").symlink_to(home / "localfs")
    assert circumstances.device_of(str(home / "link")) == home.stat().st_dev
    assert circumstances.device_of(str(home / "missing")) is None


def test_gpus_without_nvidia_smi_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has devices and nobody who could tell what runs on them can't say; who has neither has nothing there."""
    monkeypatch.setattr(facts, "nvidia_smi", lambda: "")
    monkeypatch.setattr(facts, "GPU_DEVICES", (str(tmp_path / "nvidia0"),))
    assert facts.gpu_processes(facts.nothing)[0] == 0
    write(tmp_path / "nvidia0")
    assert facts.gpu_processes(facts.nothing) == (None, "there is no nvidia-smi to ask")


# On a machine under load, a program that was killed may be reaped later than it is waited for.
SLOWLY_REAPED = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@SLOWLY_REAPED
def test_why_nvidia_smi_does_not_say_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs names the limit that gives it more time; one that fails is heard, on either of its outputs."""
    program = write(tmp_path / "nvidia-smi", b"#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(facts, "nvidia_smi", lambda: str(program))
    monkeypatch.setattr(facts, "WAITED_SECONDS", 0.1)
    count, why = facts.gpu_processes(facts.nothing, 0.3)
    assert count is None
    assert "within 0.3 s, see limits.inspect_time" in why
    program.write_text("#!/bin/sh\necho 'Driver/library version mismatch'\necho NVML failed >&2\nexit 18\n")
    assert facts.gpu_processes(facts.nothing) == (
        None,
        "nvidia-smi ended with status 18: Driver/library version mismatch NVML failed",
    )
    program.write_text("#!/bin/sh\necho 'No devices were found'\n")
    assert facts.gpu_processes(facts.nothing) == (None, "nvidia-smi says No devices were found")


@SLOWLY_REAPED
def test_names_of_gpus_are_known_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is given up, and the driver's own notes do; the other side hears a sign of life meanwhile."""
    for number in (1, 0):
        text = f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t {number}\n"
        write(tmp_path / f"gpus/0000:0{number}:00.0/information", text.encode())
    program = write(tmp_path / "nvidia-smi", b"#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    waited: list[None] = []
    monkeypatch.setattr(facts, "nvidia_smi", lambda: str(program))
    monkeypatch.setattr(facts, "NVIDIA_SECONDS", 0.3)
    monkeypatch.setattr(facts, "WAITED_SECONDS", 0.1)
    monkeypatch.setattr(facts, "NVIDIA_GPUS", str(tmp_path / "gpus"))
    assert facts.gpu_names(lambda: waited.append(None)) == ["NVIDIA H100 80GB HBM3"] * 2
    assert waited
    monkeypatch.setattr(facts, "NVIDIA_GPUS", str(tmp_path / "missing"))
    assert facts.names_by_driver() == []


def test_a_look_that_hangs_tells_nothing_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead file system holds one thread, and no second one is given to it; later all is told again."""
    free, begun = threading.Event(), []

    def hanging(request: dict[str, Any], _kept: object) -> dict[str, Any]:
        begun.append(request)
        free.wait(30)
        return {"log_ins": 0}

    monkeypatch.setattr(circumstances, "circumstances", hanging)
    output = Output(Wire(), Credit(1 << 16), b"f")
    looking: list[threading.Thread] = []
    for _ in range(2):
        told = circumstances.circumstances_within({"roots": ["/a"], "seconds": 0.05}, looking, {}, output)
        assert (told["devices"], "log_ins" in told, len(begun)) == ([None], False, 1)
    free.set()
    looking[0].join(30)
    asked = {"roots": ["/a"], "seconds": 30.0}
    assert circumstances.circumstances_within(asked, looking, {}, output) == {"log_ins": 0}
