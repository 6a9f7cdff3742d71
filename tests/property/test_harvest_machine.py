"""A host that does what it likes, passes that die where it hurts: what is at home is always what the host once showed.

The store, the catalogue, planning and sessions are the real ones; each pass is a process of its own, and its end is
SIGKILL at a named moment, SIGTERM, a link that breaks, or that all is done.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from harvestd.failpoints import POINTS
from harvestd.harvest.audit import FindingKind
from support.data_root import tree
from support.examples import examples
from support.faults import fired
from support.harvest_process import Death, Ending, Passes, Task, passes
from support.house import Workstation
from support.openssh import OpenSSHFactory
from support.scripted_box import PATHS, ROOT, Change, Deed, Host
from support.wanted import temporaries_left

KEEP = 5
"""So many replaced versions of a file are kept, the first one among them."""
_QUICK = settings(
    max_examples=examples(11, least=5),
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
# By hand they are other stories each time; CI must say the same of the same code.
_LONG = settings(
    _QUICK, max_examples=30, stateful_step_count=25, derandomize="CI" in os.environ, print_blob="CI" not in os.environ
)

CHANGES = [deed for deed in Deed if deed not in {Deed.GARBLE, Deed.CUT}]
"""What happens on the host; the rest happens to the link."""

paths = st.sampled_from(list(PATHS))
to_files = st.builds(Change, st.sampled_from(CHANGES), paths)
to_all = st.builds(Change, st.sampled_from(Deed), paths)
scripts = st.lists(st.tuples(st.integers(1, 40), to_all), max_size=4).map(lambda each: sorted(each, key=lambda e: e[0]))
points = st.one_of(
    st.sampled_from([point for point in POINTS if point.startswith("publish.")]), st.sampled_from(list(POINTS))
)
turns = st.sampled_from([1, 1, 1, 2, 5])
ends = st.sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
deaths = st.builds(Death, points, turns, ends)


class HarvestMachine(RuleBasedStateMachine):
    """One host and one workstation."""

    maker: ClassVar[Passes]
    """The process that makes all passes."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="harvest-machine-"))
        self._workstation = Workstation(self._directory, OpenSSHFactory(self._directory / "openssh"))
        self._workstation.settings(poll={"settle": "10s"})
        self._host = Host()
        self._links_only = False
        self._filed: dict[str, bytes] = {}
        """What was on record at the step before, by its path at home."""

    @initialize(links_only=st.booleans())
    def begin(self, *, links_only: bool) -> None:
        """Begin a run on the host, and an eval of another one."""
        self._links_only = links_only
        for path in list(PATHS)[:2] + list(PATHS)[-2:]:
            self._host.make(Change(Deed.WRITE, path))

    @rule(change=to_files)
    def change(self, change: Change) -> None:
        """Let something happen on the host while nobody looks."""
        self._host.make(change)

    @rule(number=st.integers(0, len(PATHS) - 1))
    def write_on(self, number: int) -> None:
        """Let the host write some files one after the other, as its programs do."""
        for path in list(PATHS)[number : number + 4]:
            self._host.make(Change(Deed.WRITE, path))

    @rule(script=scripts)
    def look(self, script: list[tuple[int, Change]]) -> None:
        """Make a pass while the host goes on."""
        self._make(script)

    @rule(path=paths, fault=st.sampled_from([Deed.GARBLE, Deed.CUT]), turn=st.sampled_from([1, 1, 1, 5, 12]))
    def fail(self, path: str, fault: Deed, turn: int) -> None:
        """Make a pass over a new version of a file while the link fails."""
        self._host.make(Change(Deed.WRITE, path))
        self.look([(turn, Change(fault, path))])

    @rule(path=paths, point=points, after=st.sampled_from([None, *CHANGES]))
    def die_in_between(self, path: str, point: str, after: Deed | None) -> None:
        """Make a pass that is killed over a new version of a file, of which there may be another one at the next."""
        self._host.make(Change(Deed.WRITE, path))
        self.die([], Death(point, 1, signal.SIGKILL))
        if after is not None:
            self._host.make(Change(after, path))

    @rule(script=scripts, death=deaths)
    def die(self, script: list[tuple[int, Change]], death: Death) -> None:
        """Make a pass that ends before its time."""
        ending = self._make(script, death)
        if ending.signal == signal.SIGKILL:
            fired(31)

    @rule()
    def rest(self) -> None:
        """Let nothing happen any more: after one pass all is here, nothing else is, and another has nothing to do."""
        self._host.finish()
        ending = self._make()
        assert not ending.failures
        assert not ending.error
        assert self._missing() == []
        assert temporaries_left(self._workstation) == []
        self._workstation.audit()
        assert self._make().files == 0

    def teardown(self) -> None:
        """Every story ends in a rest."""
        try:
            self.rest()
            self.filed_is_shown()
        finally:
            shutil.rmtree(self._directory)

    @invariant()
    def filed_is_shown(self) -> None:
        """Whatever stands at its path is one version of its file, or the beginning of one where it grows."""
        rows = {str(path): str(place) for place, path in self._workstation.catalogue("SELECT place, target FROM files")}
        anything = [content for each in self._host.shown.values() for content in each]
        for path, content in self._workstation.filed().items():
            # Of what is not on record (yet) it is not known whence it came.
            shown = self._host.shown[rows[path].removeprefix(f"{ROOT}/")] if path in rows else anything
            grows = path.endswith(".jsonl")
            assert isinstance(content, bytes)
            assert content in shown or (grows and any(each.startswith(content) for each in shown)), path

    @invariant()
    def nothing_is_lost(self) -> None:
        """Find what was on record at its place, or among its kept versions, of which too many go."""
        versions = tree(self._workstation.state / "versions") if self._workstation.state.exists() else {}
        here = [*self._workstation.filed().values(), *versions.values()]
        for path, content in self._filed.items():
            if sum(each.startswith(f"{path}/") for each in versions) < KEEP:
                assert any(isinstance(each, bytes) and each.startswith(content) for each in here), f"{path} is lost"
        self._filed = self._on_record()

    @invariant()
    def rows_have_files(self) -> None:
        """Find what is on record at its place, with its hash; a pass that died may have got further than its record."""
        if not (self._workstation.state / "catalogue.sqlite").exists():
            return
        found = self._workstation.findings()
        unsettled = {each.path for each in found if each.kind is FindingKind.UNSETTLED}
        for each in found:
            is_wrong = each.kind in {FindingKind.MISSING, FindingKind.CHANGED, FindingKind.IN_THE_WAY, FindingKind.LAX}
            assert not is_wrong or each.path in unsettled or each.path.endswith(".jsonl"), str(each)

    def _make(self, script: Sequence[tuple[int, Change]] = (), death: Death | None = None) -> Ending:
        ending = self.maker.make(Task(self._workstation.config, self._host, script, death, self._links_only))
        assert not ending.bug, ending.bug
        assert ending.signal in {0, signal.SIGKILL}
        for _, change in script[: ending.made]:
            self._host.make(change)
        return ending

    def _on_record(self) -> dict[str, bytes]:
        """Return what is on record, as far as it stands at its path."""
        filed = self._workstation.filed()
        rows = {str(path): size for path, size in self._workstation.catalogue("SELECT target, size FROM files")}
        found = {path: (content, rows[path]) for path, content in filed.items() if path in rows}
        return {
            path: content[:size]
            for path, (content, size) in found.items()
            if isinstance(content, bytes) and isinstance(size, int)
        }

    def _missing(self) -> list[str]:
        """Return what the host has and is not, or not so, at home."""
        places: dict[str, list[str]] = {}
        for place, target in self._workstation.catalogue("SELECT place, target FROM files"):
            places.setdefault(str(place), []).append(str(target))
        filed = self._workstation.filed()
        wanted = {path: file.content for path, file in self._host.files.items() if path in PATHS}
        return [
            f"{path}: {places.get(f'{ROOT}/{path}', 'nowhere')}"
            for path, content in wanted.items()
            if not places.get(f"{ROOT}/{path}")
            or any(filed.get(each) not in _forms(path, content) for each in places[f"{ROOT}/{path}"])
        ]


def _forms(path: str, content: bytes) -> set[bytes]:
    """Return how a file may stand at home: whole, or without a last line that has no end where it grows."""
    return {content, content[: content.rfind(b"\n") + 1]} if path.endswith(".jsonl") else {content}


@pytest.fixture(scope="module")
def machine() -> Iterator[type[HarvestMachine]]:
    """Provide the machine, with a process that makes its passes."""
    with passes() as HarvestMachine.maker:
        yield HarvestMachine


def test_any_story_ends_with_all_at_home(machine: type[HarvestMachine]) -> None:
    """Some stories, always the same."""
    run_state_machine_as_test(machine, settings=_QUICK)


@pytest.mark.slow
def test_many_stories_end_with_all_at_home(machine: type[HarvestMachine]) -> None:
    """Many more."""
    run_state_machine_as_test(machine, settings=_LONG)
