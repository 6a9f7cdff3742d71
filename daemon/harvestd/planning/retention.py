"""Which checkpoints of a run are wanted, and why. Pure.

A copy that is here only until a newer one comes says so in the reason on its record, which manifests keep too: such
copies alone are ever superseded. What is put into the choice with any other reason stays.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from harvestd.convention.patterns import checkpoint_step
from harvestd.convention.rules import CheckpointPolicy
from harvestd.convention.scan.completeness import missing_shards
from harvestd.convention.scan.model import Group, RunDir

FINAL: Final = "step_final"
POLICY: Final = "rule: select.checkpoint = "
"""How the reason begins for which a checkpoint is left out, until somebody asks for it."""
ROLLING: Final = "rolling: the newest checkpoint, until a newer one is here"
_PROVISIONAL: Final = "provisional: "

Rank = tuple[float, bool, str]
"""What tells which of two checkpoints of one run is newer: the greater one is."""


def rank(directory: str, final_step: int | None) -> Rank:
    """Return the rank of `step_40`; `final_step` is the step that step_final was written at, None where nobody knows.

    A run that is resumed after its finish goes on beyond that step: what it writes then is newer than its step_final.
    """
    step = checkpoint_step(directory) or "0"
    if step != "final":
        return float(step), False, directory
    return (float("inf") if final_step is None else float(final_step)), True, directory


def is_passing(reason: str) -> bool:
    """Tell by the reason on a file's record whether it is here only until a newer checkpoint is."""
    return reason.startswith((ROLLING, _PROVISIONAL))


def is_provisional(reason: str) -> bool:
    """Tell by the same reason whether it is here because its run died."""
    return reason.startswith(_PROVISIONAL)


def newest(run: RunDir, final_step: int | None, failing: Collection[str] = ()) -> str | None:
    """Return the newest checkpoint that is complete as far as names tell, None where that is the final one, or none is.

    A `final_step` that is known counts though step_final be gone from the box. What is `failing` (places on the box)
    comes after all others: a marker may be there and torn.
    """
    whole = [group for group in run.checkpoints if group.marker and not missing_shards(group)]
    sound = [group for group in whole if group.place not in failing]
    complete = [group.path.name for group in sound or whole]
    found = max(complete, key=lambda name: rank(name, final_step), default=None)
    if found in {None, FINAL} or (final_step is not None and rank(FINAL, final_step) > rank(found, final_step)):
        return None
    return found


def wanted(
    run: RunDir, policy: CheckpointPolicy, final_step: int | None, *, died: bool, failing: Collection[str] = ()
) -> Mapping[str, str]:
    """Return the checkpoints that are wanted (`step_40`), each with the reason that goes on record.

    Of a run that died nothing will become whole that is not: what is `failing` gives way to what is older.
    """
    names = [group.path.name for group in run.checkpoints]
    if policy is CheckpointPolicy.NONE:
        return {}
    if policy is CheckpointPolicy.ALL:
        return {name: f"{name} is wanted" for name in names}
    chosen = {FINAL: f"{FINAL} is wanted"} if FINAL in names else {}
    last = newest(run, final_step, failing if died else ())
    if last is not None and died:
        step = last.removeprefix("step_")
        chosen[last] = f"{_PROVISIONAL}the run died at step {step} without a final checkpoint"
    elif last is not None and policy is CheckpointPolicy.FINAL_AND_LATEST:
        chosen[last] = ROLLING
    return chosen


def unwanted_because(policy: CheckpointPolicy) -> str:
    """Return the reason for leaving a checkpoint out."""
    rule = f'{POLICY}"{policy}"'
    return f"{rule} keeps the newest" if policy is CheckpointPolicy.FINAL_AND_LATEST else rule


def because(group: Group, reason: str) -> Group:
    """Return the group with the reason for which it is wanted."""
    if all(member.reason == reason for member in group.members):
        return group
    return replace(group, members=tuple(replace(member, reason=reason) for member in group.members))
