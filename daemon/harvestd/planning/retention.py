"""Selects the wanted checkpoints of a run, with reasons. Pure.

The recorded reason, which manifests keep too, marks a copy that is kept only until a newer one is local; only such
copies are ever superseded. Checkpoints with any other reason stay.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from harvestd.convention.kinds import checkpoint_step
from harvestd.convention.rules import CheckpointPolicy
from harvestd.convention.scan.completeness import missing_shards
from harvestd.convention.scan.model import Group, RunDir

FINAL: Final = "step_final"
POLICY: Final = "rule: select.checkpoint = "
"""Prefix of the reason for leaving out a checkpoint until it is requested."""
ROLLING: Final = "rolling: the newest checkpoint, until a newer one is here"
_PROVISIONAL: Final = "provisional: "

Rank = tuple[float, bool, str]
"""Orders the checkpoints of one run: the greater rank is newer."""


def rank(directory: str, final_step: int | None) -> Rank:
    """Return the rank of `step_40`; `final_step` is the step of step_final, None if unknown.

    A run that is resumed after its finish continues beyond that step: its later checkpoints are newer than its
    step_final.
    """
    step = checkpoint_step(directory) or "0"
    if step != "final":
        return float(step), False, directory
    return (float("inf") if final_step is None else float(final_step)), True, directory


def is_passing(reason: str) -> bool:
    """Return whether the recorded reason of a file means that it is kept only until a newer checkpoint is local."""
    return reason.startswith((ROLLING, _PROVISIONAL))


def is_provisional(reason: str) -> bool:
    """Return whether the recorded reason of a file means that it is kept because its run died."""
    return reason.startswith(_PROVISIONAL)


def newest(run: RunDir, final_step: int | None, failing: Collection[str] = ()) -> str | None:
    """Return the newest checkpoint that is complete by its file names; None if that is the final one or there is none.

    A known `final_step` counts even if step_final is gone from the host. `failing` checkpoints (remote paths) come
    last: a marker may exist and be incomplete.
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
    """Return the wanted checkpoints (`step_40`), each with the reason to record.

    Incomplete checkpoints of a dead run never become complete: then an older one is preferred to a `failing` one.
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
    """Return the group with the given reason for fetching it."""
    if all(member.reason == reason for member in group.members):
        return group
    return replace(group, members=tuple(replace(member, reason=reason) for member in group.members))
