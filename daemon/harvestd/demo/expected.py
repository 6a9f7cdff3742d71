"""The expected local tree at the end of the demo, written by hand, so that it can contradict the convention's code.

Each local file is listed with the file on its host whose bytes it must have. The only other files are the manifests of
experiments, and of what waits unfiled.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from harvestd.convention.paths import INDEX, is_report
from harvestd.demo.content import RunSpec
from harvestd.demo.story import BATCH, QUIET, TRAINING

Home = PurePosixPath
"""Below the data root."""

TRAINING_HOME = Home("gns_test_2025-08-20_qwen2_5_1_5b_h100_48steps")
BATCH_HOME = Home("baseline_training_2025-08-21_qwen2_5_0_5b_8x_a100_30steps")
QUIET_HOME = Home("baseline_training_2025-08-22_llama3_8b_2x_h100_20steps")
UNFILED = Home("_unfiled/gpu-b")
HARDWARE = {"gpu-c": "2x_h100"}
"""Set by the demo's configuration; the other hosts report it themselves, which gpu-c can't."""

_CHECKPOINT = (
    "model/README.md",
    "model/adapter_config.json",
    "model/adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "training_info.json",
)
_LEAF = ("metrics.csv", "run_meta.json")
_SETTING = "temp0.7_p1.0_r8"


def expected_files() -> dict[Home, tuple[str, PurePosixPath]]:
    """Return local path → (host, path below the host's root) for every file that must be there."""
    return {
        **dict(_run(TRAINING_HOME, "gpu-a", TRAINING)),
        **dict(_evals_of_training()),
        **dict(_run(BATCH_HOME, "gpu-b", BATCH)),
        **dict(_batch_evals()),
        **dict(_hub_eval()),
        **dict(_run(QUIET_HOME, "gpu-c", QUIET)),
    }


def expected_links() -> dict[Home, str]:
    """Return the links that must be there, with their targets."""
    homes = (TRAINING_HOME, BATCH_HOME, QUIET_HOME)
    return {home / "training_run/training_state/step_latest": "step_final" for home in homes}


def expected_manifests() -> set[Home]:
    """Return the files that harvestd writes itself."""
    return {home / "manifest.json" for home in (TRAINING_HOME, BATCH_HOME, QUIET_HOME, UNFILED.parent)}


Pair = tuple[Home, tuple[str, PurePosixPath]]


def _run(home: Home, box: str, run: RunSpec) -> Iterator[Pair]:
    there = PurePosixPath("training_runs") / run.name
    final = [f"training_state/step_final/{name}" for name in _CHECKPOINT]
    for name in ("config.yaml", "logs/train_log.jsonl", f"tensorboard/{run.events_name}", *final):
        yield home / "training_run" / name, (box, there / name)


def _evals_of_training() -> Iterator[Pair]:
    there = PurePosixPath("eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template")
    home = TRAINING_HOME / "eval_results" / there.name
    leaves = [
        f"qwen2_5_15_gsm8k_finetuned/step_{step}_gsm8k_r1_template/{_SETTING}/{name}"
        for step in (10, 20, 30, 40)
        for name in _LEAF
    ]
    for name in ("eval_config.yaml", *leaves):
        yield home / name, ("gpu-a", there / name)
    base = PurePosixPath("eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template") / _SETTING
    for name in _LEAF:
        yield TRAINING_HOME / "base_eval" / _SETTING / name, ("gpu-a", base / name)


def _batch_evals() -> Iterator[Pair]:
    there = PurePosixPath("eval_runs/run_2025-08-21_09-12-05_gsm8k")
    leaves = [f"results/step_{step}/{name}" for step in (10, 20, 30) for name in ("metrics.csv", "summary.json")]
    consolidated = ("results/consolidated_metrics.csv", "results/consolidated_summary.json")
    for name in ("config.yaml", "metadata.json", *leaves, *consolidated):
        yield BATCH_HOME / "eval_results" / there.name / name, ("gpu-b", there / name)


def _hub_eval() -> Iterator[Pair]:
    there = PurePosixPath("eval_runs/Qwen/Qwen2.5-0.5B_gsm8k_finetuned/step_20_gsm8k_r1_template") / _SETTING
    for name in _LEAF:
        yield UNFILED / there / name, ("gpu-b", there / name)


_OWN = ".harvestd"


def differences(data_root: Path, roots: Mapping[str, Path]) -> list[str]:
    """Return a sentence for every missing, unexpected or different file; empty if there is none.

    `roots` holds each host's root by the host's name.
    """
    return list(_differences(data_root, roots))


def _differences(data_root: Path, roots: Mapping[str, Path]) -> Iterator[str]:
    here = {PurePosixPath(path.relative_to(data_root)): path for path in files_in(data_root)}
    files, links, manifests = expected_files(), expected_links(), expected_manifests()
    for path in sorted(here.keys() - files.keys() - links.keys() - manifests):
        yield f"should not be here: {path}"
    for path in sorted((files.keys() | links.keys() | manifests) - here.keys()):
        yield f"is missing: {path}"
    for path in sorted(links.keys() & here.keys()):
        if not here[path].is_symlink() or os.readlink(here[path]) != links[path]:  # noqa: PTH115  (the text, not a path)
            yield f"should be a link to {links[path]}: {path}"
    for path in sorted(files.keys() & here.keys()):
        box, there = files[path]
        if here[path].is_symlink() or here[path].read_bytes() != (roots[box] / there).read_bytes():
            yield f"is not what is on {box}: {path}"


def files_in(data_root: Path) -> list[Path]:
    """Return every file and link below a data root, except harvestd's own and its reports, sorted."""
    found = [path for path in data_root.rglob("*") if path.is_symlink() or path.is_file()]
    return sorted(path for path in found if not _is_own(path.relative_to(data_root).parts))


def _is_own(parts: tuple[str, ...]) -> bool:
    return parts[0] == _OWN or parts == (INDEX,) or is_report(parts[1:])
