"""What must stand at home once all of a box's files have come, told without the convention: what the box has, by place.

A place is a path on the box. Everything that the made-up writers of `demo` write is wanted but records, rollouts, what
notebooks leave, and checkpoints beside the final one; the catalogue says where each stands at home, and the bytes must
be the box's.
"""

from pathlib import Path

from support.house import Workstation

_UNWANTED = {"records.jsonl.gz", "rollouts.jsonl", ".ipynb_checkpoints"}


def wanted(root: Path) -> dict[str, bytes]:
    """Return the content of every file of a box that must come home, by its place."""
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if _is_wanted(path)}


def _is_wanted(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or not _UNWANTED.isdisjoint(path.parts):
        return False
    return "training_state" not in path.parts or "step_final" in path.parts


def missing(workstation: Workstation) -> list[str]:
    """Return what is not at home as it is on the boxes, or is there and on none of them: nothing, in the end."""
    rows = workstation.catalogue("SELECT place, target FROM files")
    targets: dict[str, list[str]] = {}
    for place, target in rows:
        targets.setdefault(str(place), []).append(str(target))
    there = {place: content for box in workstation.boxes.values() for place, content in wanted(box.root).items()}
    here = {path: content for path, content in workstation.filed().items() if not isinstance(content, str)}
    wrong = [f"{place} is not here" for place in there if place not in targets]
    wrong += [f"{place} is not wanted" for place in targets if place not in there]
    wrong += [
        f"{target} is not {place}"
        for place, content in there.items()
        for target in targets.get(place, ())
        if here.get(target) != content
    ]
    known = {target for each in targets.values() for target in each}
    return wrong + [f"{path} is on no box" for path in here if path not in known]


def temporaries_left(workstation: Workstation) -> list[str]:
    """Return what is left of work that did not end: temporaries, journals and intents; nothing, in the end."""
    staging = [path.name for path in (workstation.data / ".harvestd" / "staging").iterdir()]
    journals = [str(row) for row in workstation.catalogue("SELECT name FROM transfers")]
    return staging + journals + [str(row) for row in workstation.catalogue("SELECT id FROM intents")]
