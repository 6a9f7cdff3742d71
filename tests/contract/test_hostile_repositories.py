"""No program that a git repository names is run on a host, however it names it; each would run in `git status`."""

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from contract.connected import box_at, training, watching
from harvestd.safety.inputs import Checkout
from support.openssh import OpenSSHFactory

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

LATELY = timedelta(hours=1)
Trap = Callable[[Path, Path, Path], None]
"""Prepares a checkout with a trap; is given the checkout, the program, and a place outside the home directory."""


def git(place: Path, *words: str) -> None:
    """Run git, with nothing of its own settings and no trap."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)


def commit(place: Path) -> None:
    """Commit all, as a remote branch holds it, too."""
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "all")
    git(place, "update-ref", "refs/remotes/origin/main", "HEAD")


def repository(place: Path, attributes: str = "") -> Path:
    """Make a checkout with one commit, in which nothing is at stake."""
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    (place / "train.py").write_bytes(b"x")
    if attributes:
        (place / ".gitattributes").write_text(attributes)
    commit(place)
    return place


def section(name: str, trap: Path) -> str:
    """Return the configuration of a filter."""
    return f'[filter "{name}"]\n\tclean = {trap}\n\tprocess = {trap}\n\tsmudge = {trap}\n\trequired = true\n'


def append(path: Path, text: str) -> None:
    """Add to a file."""
    with path.open("a") as file:
        file.write(text)


def filter_of_an_odd_name(place: Path, trap: Path, _far: Path) -> None:
    """Name a filter so that an option on the command line is cut short at its name."""
    append(repository(place, "*.py filter=a=b\n") / ".git/config", section("a=b", trap))


def filter_by_info_attributes(place: Path, trap: Path, _far: Path) -> None:
    """Name the files of a filter where no commit shows them."""
    append(repository(place) / ".git/config", section("plain", trap))
    append(place / ".git/info/attributes", "*.py filter=plain\n")


def filter_with_a_line_end(place: Path, trap: Path, _far: Path) -> None:
    """Name a filter so that it is cut in two in a list of names by lines."""
    repository(place)
    git(place, "config", "filter.a\\b.c.clean", str(trap))
    append(place / ".git/info/attributes", "*.py filter=a\\b.c\n")


def filter_by_condition(place: Path, trap: Path, far: Path) -> None:
    """Include the filter's configuration from elsewhere, where a condition holds."""
    repository(place, "*.py filter=elsewhere\n")
    (far / f"{place.name}.config").write_text(section("elsewhere", trap))
    append(place / ".git/config", f'[includeIf "gitdir:{place}/.git"]\n\tpath = {far}/{place.name}.config\n')


def monitor_of_the_file_system(place: Path, trap: Path, _far: Path) -> None:
    """Have git ask a program which files changed."""
    git(repository(place), "config", "core.fsmonitor", str(trap))


def hooks_elsewhere(place: Path, trap: Path, far: Path) -> None:
    """Have git start a hook when it refreshes the index."""
    hooks = far / f"{place.name}.hooks"
    hooks.mkdir()
    (hooks / "post-index-change").symlink_to(trap)
    git(repository(place), "config", "core.hooksPath", str(hooks))


def submodule(place: Path, trap: Path, far: Path) -> None:
    """Set the trap in a submodule, which git enters with the submodule's own configuration."""
    source = repository(far / f"{place.name}.source", "*.py filter=inner\n")
    repository(place)
    git(place, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(source), "part")
    commit(place)
    append(place / ".git/modules/part/config", section("inner", trap))
    os.utime(place / "part/train.py", ns=(10**18, 10**18))


def worktree(place: Path, trap: Path, far: Path) -> None:
    """Set the trap in the configuration of one worktree alone, whose repository lies elsewhere."""
    source = repository(far / f"{place.name}.source", "*.py filter=tree\n")
    git(source, "config", "extensions.worktreeConfig", "true")
    git(source, "worktree", "add", "-q", "-b", "other", str(place))
    append(source / f".git/worktrees/{place.name}/config.worktree", section("tree", trap))


def repository_elsewhere_by_a_file(place: Path, trap: Path, far: Path) -> None:
    """Let a file say where the repository is."""
    repository(place, "*.py filter=far\n")
    (place / ".git").rename(far / f"{place.name}.git")
    (place / ".git").write_text(f"gitdir: {far}/{place.name}.git\n")
    append(far / f"{place.name}.git/config", section("far", trap))


def repository_elsewhere_by_a_link(place: Path, trap: Path, far: Path) -> None:
    """Let a link say where the repository is."""
    repository(place, "*.py filter=far\n")
    (place / ".git").rename(far / f"{place.name}.git")
    (place / ".git").symlink_to(far / f"{place.name}.git")
    append(far / f"{place.name}.git/config", section("far", trap))


TRAPS: tuple[Trap, ...] = (
    filter_of_an_odd_name,
    filter_by_info_attributes,
    filter_with_a_line_end,
    filter_by_condition,
    monitor_of_the_file_system,
    hooks_elsewhere,
    submodule,
    worktree,
    repository_elsewhere_by_a_file,
    repository_elsewhere_by_a_link,
)
NEVER_IN_STATUS = """
[alias]
\tls-files = !{trap}
\trev-list = !{trap}
\tstatus = !{trap}
[core]
\tpager = {trap}
\teditor = {trap}
\taskPass = {trap}
\tsshCommand = {trap}
\tgitProxy = {trap}
[pager]
\tls-files = {trap}
\trev-list = {trap}
\tstatus = {trap}
[diff]
\texternal = {trap}
[diff "text"]
\ttextconv = {trap}
\tcommand = {trap}
[merge "text"]
\tdriver = {trap}
[credential]
\thelper = !{trap}
[gpg]
\tprogram = {trap}
[log]
\tshowSignature = true
"""


def trap_in(far: Path, then: str = "cat") -> Path:
    """Make a program that notes in which checkout it was run."""
    trap = far / "trap"
    trap.write_text(f'#!/bin/sh\necho "$PWD" >> {far}/sprung\n{then}\n')
    trap.chmod(0o755)
    return trap


async def test_nothing_that_a_repository_names_is_run(
    openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path
) -> None:
    """Filters, monitors, hooks: of the checkout, of its submodules and worktrees, and of repositories elsewhere."""
    far = tmp_path / "far"
    far.mkdir()
    server = openssh_factory()
    trap, sprung = trap_in(far), far / "sprung"
    places = {prepare: server.directory / "home" / prepare.__name__ for prepare in TRAPS}
    for prepare, place in places.items():
        prepare(place, trap, far)
        # Its times are not those in the index: git has to read it, through the filter, to know whether it changed.
        os.utime(place / "train.py", ns=(10**18, 10**18))
    assert not sprung.exists()
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(LATELY)
    assert not sprung.exists(), sprung.read_text()
    assert reported.checkouts == ()
    for prepare, place in places.items():
        subprocess.run(["git", "status"], cwd=place, capture_output=True, check=False)  # noqa: ASYNC221  (short)
        assert sprung.exists(), f"{prepare.__name__} is no trap"
        sprung.unlink()


async def test_no_program_of_other_settings_is_run(openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path) -> None:
    """Aliases, pagers, external diffs, text converters and helpers for credentials; and work is found all the same."""
    server = openssh_factory()
    trap = trap_in(tmp_path)
    place = repository(server.directory / "code", "*.py diff=text merge=text\n")
    append(place / ".git/config", NEVER_IN_STATUS.format(trap=trap))
    (place / "train.py").write_bytes(b"better")
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(LATELY)
    assert reported.checkouts == (Checkout(str(place), 1, 0),)
    assert not (tmp_path / "sprung").exists()
    subprocess.run(["git", "diff"], cwd=place, capture_output=True, check=False)  # noqa: ASYNC221  (short)
    assert (tmp_path / "sprung").exists()


async def test_a_missing_object_is_not_fetched(openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path) -> None:
    """A transport may be a program of the repository's choice; the checkout counts as one that can't be read."""
    server = openssh_factory()
    trap = trap_in(tmp_path, "exit 1")
    place = repository(server.directory / "code")
    for name, value in (
        ("extensions.partialClone", "origin"),
        ("core.repositoryFormatVersion", "1"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::{trap}"),
        ("protocol.ext.allow", "always"),
    ):
        git(place, "config", name, value)
    for tree in (place / ".git/objects").glob("??/*"):
        kind = subprocess.run(  # noqa: ASYNC221  (short)
            ["git", "cat-file", "-t", tree.parent.name + tree.name], cwd=place, capture_output=True, check=True
        )
        if kind.stdout == b"tree\n":
            tree.unlink()
    (tmp_path / "sprung").unlink(missing_ok=True)
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(LATELY)
    assert reported.checkouts is not None
    assert [each.place for each in reported.checkouts] == [str(place)]
    assert not (tmp_path / "sprung").exists()
    subprocess.run(["git", "status"], cwd=place, capture_output=True, check=False)  # noqa: ASYNC221  (short)
    assert (tmp_path / "sprung").exists()


async def test_what_another_user_owns_counts_as_work_that_may_be_lost(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """Git does not read it for us: its owner could change it while it is read."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to give a repository to another user")
    server = openssh_factory()
    place = repository(server.directory / "theirs")
    for each in (place, *place.rglob("*")):
        os.chown(each, 12345, -1, follow_symlinks=False)
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(LATELY)
    assert reported.checkouts == (Checkout(str(place), 1, 0),)
