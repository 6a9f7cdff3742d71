"""A made-up box and its home, with all that a verdict on it rests on: drained, until a test changes something."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import LossKind
from harvestd.convention.rules import waived_places
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.links import LinkTarget, links_out
from harvestd.convention.scan.snapshot import Tree
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import finished
from harvestd.planning.requests import Request, RequestKind
from harvestd.planning.run_status import Liveness
from harvestd.safety.accounting import not_here
from harvestd.safety.check import judge
from harvestd.safety.inputs import Circumstances, Damaged, Evidence, NoMemo, Outside, ScanEvidence, run_state
from harvestd.safety.losses import accounting_for, link_losses, losses_of
from harvestd.safety.verdict import Verdict
from support.box_trees import EVALS, ROOT, TRAINING, Box, Home, T

RUN = f"training_runs/{T}"
EVAL = f"eval_runs/{T}_gsm8k"
LEAF = f"{EVAL}/results/step_final_gsm8k/greedy"
IDLE = 900.0
NOW = 5000.0
"""Seconds after the first look."""
DISK = 2049
"""The number of the device that a box's roots are on."""
NOBODY = Circumstances(
    machine="m",
    hostname="gpu-a",
    gpu_processes=0,
    log_ins=0,
    transfers=0,
    devices={ROOT: DISK},
    outside=Outside(0, 0),
    checkouts=(),
)
"""A box on which nobody works, and on which nothing lies but what is in its trees."""


@dataclass
class Scene:
    """Whatever a verdict depends on; as it stands, the box is drained."""

    box: Box = field(default_factory=Box)
    home: Home = field(default_factory=Home)
    connected: bool = True
    looked: bool = True
    whole: bool = True
    age: float = 2.0
    rejected: int = 0
    roots: tuple[str, ...] = (ROOT,)
    now: float = NOW
    quiet: float = 1000.0
    idle_for: float = IDLE
    seen: bool = True
    devices: dict[str, int] = field(default_factory=lambda: {str(TRAINING): DISK, str(EVALS): DISK, ROOT: DISK})
    """When something was seen first."""
    devices_now: dict[Tree, int] = field(default_factory=lambda: {TRAINING: DISK, EVALS: DISK})
    circumstances: Circumstances | None = NOBODY
    transfers: int = 0
    failing: dict[str, str] = field(default_factory=dict)
    damaged: tuple[Damaged, ...] = ()
    through: str | None = None
    written_elsewhere: set[str] = field(default_factory=set)
    """Paths of runs, from the tree on."""
    accepted: frozenset[LossKind] = frozenset()
    links: dict[str, LinkTarget] = field(default_factory=dict)
    """What the host says of its links, by their places."""

    def bring(self) -> None:
        """Bring home everything that is wanted now."""
        self.home.settle_all([self.box])

    def tell(self, **changes: object) -> None:
        """Let the box say something else of itself."""
        self.circumstances = replace(self.circumstances or NOBODY, **changes)

    def ask(self, kind: RequestKind, **detail: object) -> None:
        """Ask for something of the run by hand."""
        self.home.knowledge.add_request(Request(1, kind, self.box.storage, f"{ROOT}/{RUN}", 0.0, detail))

    def evidence(self) -> Evidence:
        """Return it as the harvest would gather it."""
        box, home = self.box, self.home
        gpu = None if self.circumstances is None else self.circumstances.gpu_processes
        home.liveness = Liveness(idle_for=self.idle_for, gpu_processes=gpu)
        snapshot = box.snapshot(self.now)
        listings = tuple(replace(each, device=self.devices_now.get(each.tree, 0)) for each in snapshot.listings)
        seen, plan = survey(snapshot, home.selection), home.plan(box, self.now)
        sightings = StabilityTracker()
        sightings.update(snapshot, self.now)
        knowledge = home.knowledge
        states = [
            replace(
                run_state(run, knowledge.run_at(box.storage, run.place), box.name, home.liveness, sightings, self.now),
                elsewhere=run.place.removeprefix(f"{ROOT}/") in self.written_elsewhere,
            )
            for run in seen.runs
            if run.config is not None
        ]
        memo = home.memo_of(box)
        memo.begin()
        shown = home.last_survey(box)
        finished(accounting_for(shown, plan, box.storage, knowledge, DATASETS, memo))
        memo.begin()
        absent = not_here(shown, plan, box.storage, knowledge, memo)
        losses = losses_of(shown, plan, box.storage, knowledge, DATASETS, memo)
        # What is kept of earlier verdicts changes nothing.
        assert absent == not_here(seen, plan, box.storage, knowledge, NoMemo())
        assert losses == losses_of(seen, plan, box.storage, knowledge, DATASETS, NoMemo())
        return Evidence(
            connected=self.connected,
            scan=ScanEvidence(
                listings,
                plan,
                self.age,
                whole=self.whole,
                rejected=self.rejected,
                waived=waived_places(listings, home.selection),
            )
            if self.looked
            else None,
            roots=self.roots,
            devices=self.devices,
            seen=self.seen,
            quiet=self.quiet,
            idle_for=self.idle_for,
            runs=tuple(states),
            not_here=absent,
            failing=self.failing,
            damaged=self.damaged,
            transfers=self.transfers,
            losses=(
                *losses,
                *link_losses(links_out(seen, listings), self.links),
            ),
            through=self.through,
            circumstances=self.circumstances,
            accepted=self.accepted,
        )

    def verdict(self) -> Verdict:
        """Judge it."""
        return judge(self.evidence())


def drained() -> Scene:
    """Return a box with a finished run and an eval of its final checkpoint, all of it here."""
    scene = Scene()
    scene.box.add_run(RUN)
    scene.box.finish(RUN)
    scene.box.file(f"{EVAL}/eval_config.yaml")
    scene.box.eval_configs[EVAL] = f"/x/{T}"
    scene.box.add_leaf(LEAF)
    scene.bring()
    return scene


def sizes(verdict: Verdict) -> Mapping[LossKind, int | None]:
    """Return how much each kind of loss comes to."""
    return {loss.kind: loss.size for loss in verdict.losses}
