"""Whatever a box shows: places stay in the root and are claimed once, every file has its line, plans come to an end."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.metadata.naming import NamingContext, NamingFacts, free_name, name_run
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath, RejectedPath, RemotePath, decoded, encoded
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.classify import Surveyor, survey
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Entry, EntryType, Snapshot, Tree, TreeState, Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.planning.plan import Plan
from harvestd.planning.records import FileRecord
from support.box_trees import EVALS, PRESENT, TRAINING, Box, Home, T, stamped
from support.examples import examples

TRICKS = [
    b"..",
    b".",
    b"",
    b"../x",
    b"/etc",
    b".harvestd",
    b"_unfiled",
    b"a\0b",
    b"\n",
    b"n" * 256,
    b"\xff",
    b"\x1b[31m",
]
raw_names = st.one_of(st.binary(max_size=20), st.sampled_from(TRICKS))

KNOWN = [
    T,
    f"{T}_gsm8k",
    "run_2025-08-21_00-00-00",
    "config.yaml",
    "eval_config.yaml",
    "metadata.json",
    "logs",
    "train_log.jsonl",
    "rollouts.jsonl",
    "tensorboard",
    "events.out.tfevents.1",
    "training_state",
    "step_10",
    "step_final",
    "step_latest",
    "optimizer.pt",
    "training_info.json",
    "qwen2_5_15_gsm8k_finetuned",
    "Qwen",
    "Qwen2.5-1.5B_gsm8k_finetuned",
    "x_newset_finetuned",
    "step_base_gsm8k",
    "step_base_full_gsm8k",
    "step_5_math",
    "results",
    "temp0.7_p1.0_r8",
    "metrics.csv",
    "run_meta.json",
    "summary.json",
    "consolidated_metrics.csv",
    "records.jsonl.gz",
    "wandb",
    ".harvestd",
    "_unfiled",
    "base_eval",
    "x.tmp",
]
names = st.one_of(st.sampled_from(KNOWN), st.binary(min_size=1, max_size=6).map(decoded))


TEMPLATES = [
    f"{run}/{rest}"
    for run in (T, "run_2025-08-21_00-00-00", f"nested/{T}")
    for rest in (
        "config.yaml",
        "logs/train_log.jsonl",
        "tensorboard/events.out.tfevents.1",
        "training_state/step_10/training_info.json",
        "training_state/step_10/optimizer.pt",
        "training_state/step_final/training_info.json",
        "training_state/step_final/model/adapter_model.safetensors",
        "training_state/step_latest",
        "results/step_5/metrics.csv",
        "results/step_5/summary.json",
        "eval_config.yaml",
    )
] + [
    f"{above}/{step}/temp0.7_p1.0_r8/{name}"
    for above in ("qwen2_5_15_gsm8k_finetuned", "Qwen/Qwen2.5-1.5B_gsm8k_finetuned", "x_newset_finetuned")
    for step in ("step_base_gsm8k", "step_base_full_gsm8k", "step_5_math")
    for name in ("metrics.csv", "run_meta.json", "records.jsonl.gz")
]


@st.composite
def paths(draw: st.DrawFn) -> RemotePath:
    """Return a path below a tree, mostly of names that mean something there."""
    known = [template.split("/") for template in TEMPLATES]
    parts = draw(st.sampled_from(known) | st.sampled_from(known) | st.lists(names, min_size=1, max_size=6))
    try:
        return RemotePath(tuple(parts))
    except RejectedPath:
        return RemotePath(("fine",))


versions = st.builds(
    Version,
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1) | st.just(int(PRESENT * 1e9) - 10**12),
    st.just(0) | st.just(int(PRESENT * 1e9) - 10**12),
    st.integers(0, 2**64),
)
kinds = st.sampled_from([EntryType.FILE] * 6 + [EntryType.LINK, EntryType.OTHER, EntryType.PRUNED, EntryType.DIRECTORY])
things = st.tuples(paths(), kinds, versions, names)

facts = st.builds(
    ConfigFacts,
    st.none() | st.sampled_from(["Qwen/Qwen2.5-1.5B", "x", "\x00", "é" * 200]),
    st.none() | st.just("qwen2_5_15"),
    st.none() | st.integers(0, 10**9),
    st.none() | st.sampled_from(["gsm8k", "math"]),
    st.booleans(),
)


def _box(draw: st.DrawFn, name: str) -> Box:
    box = Box(name, storage=f"static:{name}")
    for template in draw(st.lists(st.sampled_from(TEMPLATES), min_size=5, max_size=25, unique=True)):
        for tree in (TRAINING, EVALS):
            box.file(
                f"{tree.name}/{template}", draw(st.integers(0, 10**7)), age=draw(st.sampled_from([0.0, 5.0, 3600.0]))
            )
    if draw(st.integers(0, 3)):
        box.add_run()
    for tree in (TRAINING, EVALS):
        for path, kind, version, target in draw(st.lists(things, max_size=25)):
            text = f"{tree.name}/{path}"
            above = [RemotePath(path.parts[:depth]) for depth in range(1, len(path.parts))]
            entries = box.entries.get(tree, {})
            if any(each in entries and entries[each].type is not EntryType.DIRECTORY for each in above):
                continue  # nothing lies below a file
            if path in entries:
                continue
            box.put(text, kind, version, target if kind is EntryType.LINK else None)
    for run in (T, "run_2025-08-21_00-00-00"):
        box.configs[f"training_runs/{run}"] = draw(facts)
        if draw(st.booleans()):
            box.finals[f"training_runs/{run}"] = TrainingInfo(draw(st.integers(0, 100)))
    return box


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Return a box with random trees of such names, whose kinds and versions are anything."""
    return _box(draw, "gpu-a")


@st.composite
def two_boxes(draw: st.DrawFn) -> tuple[Box, Box]:
    """Return two such boxes, on storage of their own or on one."""
    first, second = _box(draw, "gpu-a"), _box(draw, "gpu-b")
    second.storage = draw(st.sampled_from([first.storage, second.storage]))
    return first, second


selections = st.builds(
    Selection,
    checkpoint=st.sampled_from(CheckpointPolicy),
    records=st.booleans(),
    tensorboard=st.booleans(),
    exclude=st.lists(st.sampled_from(["*.csv", "logs", "step_1*", "Qwen/*", f"{T}*"]), max_size=2).map(tuple),
)


def fetched(plan: Plan) -> Counter[LocalPath]:
    """Count how often a plan puts something at each place."""
    found = Counter(target.path for group in plan.groups for file in group.files for target in file.targets)
    found.update(follow.target.path for follow in plan.follows)
    found.update(refile.target.path for refile in plan.refiles)
    return found


def everything(home: Home) -> list[FileRecord]:
    """Return every file that is at home."""
    experiments = [experiment.id for experiment in home.knowledge.experiments()]
    return [file for each in (*experiments, None) for file in home.knowledge.files_of(each)]


@settings(max_examples=examples(200), deadline=None)
@given(raw=st.lists(raw_names, min_size=1, max_size=5))
def test_any_bytes_are_a_path_below_the_root_or_none(raw: list[bytes]) -> None:
    """A name is refused as a value, or it comes back byte for byte and leads nowhere but down."""
    parts = tuple(decoded(name) for name in raw)
    for kind in (RemotePath, LocalPath):
        try:
            path = kind(parts)
        except RejectedPath:
            continue
        assert kind.parse(str(path)) == path
        assert encoded(str(path)) == b"/".join(raw)
        assert not set(raw) & {b"", b".", b".."}
        assert not any(b"/" in name or b"\0" in name for name in raw)
        assert not str(path).startswith("/")
        if kind is LocalPath:
            assert raw[0].lower() != b".harvestd"


@settings(max_examples=examples(300), deadline=None)
@given(text=st.text(st.characters(codec=None) | st.sampled_from("é\udcc3\udca9\udcff\ud800"), min_size=1, max_size=8))
@example(text="\udcc3\udca9")
def test_a_name_has_one_spelling(text: str) -> None:
    """A text that is taken for a name is the one that its bytes decode to: no two paths are one file."""
    try:
        path = RemotePath((text,))
    except RejectedPath:
        return
    assert decoded(encoded(path.name)) == text


@settings(max_examples=examples(150), deadline=None)
@given(both=two_boxes(), selection=selections)
def test_every_file_of_a_box_stands_in_exactly_one_list(both: tuple[Box, Box], selection: Selection) -> None:
    """Each file is fetched, followed, checked, moved, waiting, left out with a reason, or here: never none of these.

    The second box finds some of its places taken.
    """
    home = Home(selection)
    for box in both:
        for turn in range(3):
            home.learn(box)
            plan = home.plan(box)
            check_lists(box, home, plan, turn)
            home.do(plan, box)


def check_lists(box: Box, home: Home, plan: Plan, turn: int) -> None:
    """Fail unless each file of the box stands in the lists of the plan as it should."""
    fetching = [file.source.place for group in plan.groups for file in group.files]
    doing = Counter(fetching + [each.place for each in plan.follows])
    also = {each.place for each in plan.checks} | {each.record.place for each in plan.refiles}
    waiting = {each.place for each in plan.waiting}
    left_out = {each.place for found in plan.left_out.values() for each in found}
    for tree, entries in box.entries.items():
        for path, entry in entries.items():
            if entry.type is not EntryType.FILE:
                continue
            place = f"{tree}/{path}"
            above = {"/".join((str(tree), *path.parts[:depth])) for depth in range(len(path.parts) + 1)}
            here = bool(home.knowledge.copies(box.storage, place))
            assert doing[place] or above & waiting or above & left_out or here or place in also, (turn, place)
            assert doing[place] <= 1
            # A base eval may come for one experiment, while another has its place taken.
            assert not (doing[place] and above & left_out) or "step_base" in place, (turn, place)
            # What is left out of a directory that waits has a line of its own.
            assert not (doing[place] and place in waiting), (turn, place)
            assert not above & waiting & left_out, (turn, place)


@settings(max_examples=examples(100), deadline=None)
@given(both=two_boxes(), selection=selections)
def test_no_two_sources_get_one_place(both: tuple[Box, Box], selection: Selection) -> None:
    """In one plan, and over the plans of two boxes one after the other, a place is given once and never taken away."""
    home = Home(selection)
    holders: dict[LocalPath, tuple[str, str]] = {}
    for box in (*both, *both):
        home.learn(box)
        plan = home.plan(box)
        places = fetched(plan)
        assert max(places.values(), default=0) <= 1
        directories = {(each.directory,) for each in home.knowledge.experiments()}
        for path in places:
            assert LocalPath(path.parts) == path
            # What another host of the same storage brought first waits where that one put it.
            waits = path.parts[0] == "_unfiled" and path.parts[1] in {each.name for each in both}
            assert path.parts[:1] in directories or waits
        home.do(plan, box)
        for file in everything(home):
            assert holders.setdefault(file.target, (file.storage, file.place)) == (file.storage, file.place)


@settings(max_examples=examples(100), deadline=None)
@given(box=boxes(), selection=selections)
def test_plans_come_to_an_end(box: Box, selection: Selection) -> None:
    """A plan that was done is not made again: after the moves and links that it allows, there is nothing left to do."""
    home = Home(selection)
    home.settle_all([box])
    assert home.plan(box).is_empty
    assert home.plan(box) == home.plan(box)


@settings(max_examples=examples(100), deadline=None)
@given(box=boxes(), selection=selections, data=st.data())
def test_only_what_changed_is_planned(box: Box, selection: Selection, data: st.DataObject) -> None:
    """When one file changes, nothing is planned but that file and what its change makes complete."""
    home = Home(selection)
    home.settle_all([box])
    files = [
        (tree, path) for tree, found in box.entries.items() for path in found if found[path].type is EntryType.FILE
    ]
    if not files:
        return
    tree, path = data.draw(st.sampled_from(files))
    before = box.entries[tree][path]
    box.entries[tree][path] = replace(before, version=replace(before.version, size=before.version.size ^ 1, inode=7))
    home.learn(box)
    plan = home.plan(box)
    parent = f"{tree}/{path}".rpartition("/")[0]
    for group in plan.groups:
        for file in group.files:
            assert file.source.place.startswith(parent.partition("/training_state/")[0])
    for follow in plan.follows:
        assert follow.place == f"{tree}/{path}"


def change(data: st.DataObject, box: Box) -> None:
    """Change one thing in a box: an entry appears, vanishes or becomes another, a directory or a tree is shut."""
    tree = data.draw(st.sampled_from(box.trees))
    entries = box.entries.setdefault(tree, {})
    what = data.draw(st.sampled_from(["appear"] * 3 + ["become"] * 3 + ["vanish", "shut", "open", "state"]))
    if what == "appear":
        path, kind, version, target = data.draw(things)
        entries.pop(path, None)
        entries[path] = Entry(path, kind, version, target if kind is EntryType.LINK else None)
    elif what == "state":
        box.states[tree] = data.draw(st.sampled_from([TreeState.PRESENT, TreeState.DENIED]))
    elif what == "open":
        box.unreadable.pop(tree, None)
    elif entries:
        path = data.draw(st.sampled_from(sorted(entries)))
        if what == "become":
            entries[path] = replace(entries[path], type=data.draw(kinds), version=data.draw(versions))
        elif what == "vanish":
            del entries[path]
        else:
            box.unreadable.setdefault(tree, []).append(path)


@settings(max_examples=examples(150), deadline=None)
@given(box=boxes(), data=st.data())
def test_surveying_again_gives_what_a_survey_from_nothing_gives(box: Box, data: st.DataObject) -> None:
    """Whatever changes between two looks, and however often, what is taken over from the last look is still right."""
    surveyor = Surveyor()
    selection = data.draw(selections)
    last: Snapshot | None = None
    for _ in range(data.draw(st.integers(2, 6))):
        for _ in range(data.draw(st.integers(0, 4))):
            change(data, box)
        if data.draw(st.integers(0, 4)) == 0:
            selection = data.draw(selections)
        snapshot = stamped(box.snapshot(), last)
        last = snapshot if data.draw(st.integers(0, 5)) else None
        assert surveyor.survey(snapshot, selection) == survey(snapshot, selection)
        assert surveyor.survey(snapshot, selection) == survey(snapshot, selection)


def shown_in(box: Box, tree: Tree) -> list[tuple[RemotePath, Version]]:
    """Return the entries of a tree with their versions."""
    return [(path, entry.version) for path, entry in box.entries.get(tree, {}).items()]


@settings(max_examples=examples(150), deadline=None)
@given(box=boxes(), data=st.data())
def test_ages_are_the_same_whether_a_listing_says_what_changed(box: Box, data: st.DataObject) -> None:
    """What was seen to change is as old by the differences as by a comparison of everything."""
    told, compared = StabilityTracker(), StabilityTracker()
    last: Snapshot | None = None
    for now in range(data.draw(st.integers(2, 6))):
        for _ in range(data.draw(st.integers(0, 4))):
            change(data, box)
        last = stamped(box.snapshot(), last)
        told.update(last, float(now))
        compared.update(box.snapshot(), float(now))
        for source in [Source(tree, *each) for tree in box.trees for each in shown_in(box, tree)]:
            assert told.lag(source, 10.0) == compared.lag(source, 10.0)
            assert told.age(source, 10.0) == compared.age(source, 10.0)


@settings(max_examples=examples(150), deadline=None)
@given(
    config=facts,
    hosts=st.lists(st.text(max_size=80), min_size=1, max_size=4),
    gpus=st.lists(st.text(max_size=300), max_size=2).map(tuple),
    experiment=st.none() | st.text(max_size=300),
    model=st.text(max_size=300),
)
def test_every_experiment_gets_a_directory_of_its_own(
    config: ConfigFacts, hosts: list[str], gpus: tuple[str, ...], experiment: str | None, model: str
) -> None:
    """Any facts make one valid, plain component that nobody else has."""
    run = run_name(T)
    assert isinstance(run, RunName)
    taken: set[str] = set()
    for host in hosts:
        context = NamingContext(host, experiment=experiment, gpu_names=gpus, models={"x": model})
        name = free_name(name_run(run, NamingFacts(config), context), run, host, lambda name: name.casefold() in taken)
        assert LocalPath((name.directory,)).parts == (name.directory,)
        assert name.directory.isascii()
        assert name.directory.isprintable()
        assert name.directory.casefold() not in taken
        taken.add(name.directory.casefold())
