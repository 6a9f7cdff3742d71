"""What an eval came to is read once for each version: as it arrives, or from home where that would hold it up."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.planning.records import FileRecord
from harvestd.report.scripts.evals import Eval
from harvestd.report.small_files import Evals
from harvestd.store.root import DataRoot

TREE = Tree("/data", "eval_runs", TreeKind.EVAL)
LEAF = ("experiment", "eval_results", "run_2025-08-20_03-31-43_gsm8k", "step_20_gsm8k", "temp1_p1_r8")
KINDS = {"metrics.csv": Kind.METRICS, "run_meta.json": Kind.RUN_META}
METRICS = b"pass@1\n1\n0\n"
META = b'{"decoding_cfg": {"temperature": 0.5}}'
LATER = b'{"decoding_cfg": {"temperature": 0.25}}'
LONG = b"pass@1\n" + b"1\n" * 40_000
"""More than is read while a publication waits."""


def source(name: str) -> Source:
    """Return the file of that name in the eval, as a look would."""
    return Source(TREE, RemotePath((*LEAF, name)), Version(1, 1))


def came(**contents: bytes) -> list[tuple[Source, bytes, str]]:
    """Let these files arrive together; a name's last underscore is its dot."""
    named = {".".join(name.rsplit("_", 1)): content for name, content in contents.items()}
    return [(source(name), content, sha256(content).hexdigest()) for name, content in named.items()]


def recorded(files: Sequence[tuple[Source, bytes, str]]) -> list[FileRecord]:
    """Return the catalogue's records of what arrived."""
    return [
        FileRecord(
            "fs-1", one.place, LocalPath(one.path), "gpu-a", "e1", KINDS[one.path.name], one.version, 1, told, 1, ""
        )
        for one, _, told in files
    ]


def put(data: Path, files: Sequence[tuple[Source, bytes, str]]) -> None:
    """Place what arrived at home."""
    for one, content, _ in files:
        path = data.joinpath(*one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def figures(evals: Evals, data: Path, files: Sequence[tuple[Source, bytes, str]]) -> Eval | None:
    """Return what the one eval came to."""
    with DataRoot.open(data) as root:
        found = evals.of(root, recorded(files), {}, None).evals
    return found[0] if found else None


def test_what_arrived_is_not_read_again(tmp_path: Path) -> None:
    """Nothing stands at home, and the figures are known all the same: of metrics and of what its run was set to."""
    files = came(metrics_csv=METRICS, run_meta_json=META)
    evals = Evals()
    assert figures(evals, tmp_path, files) is None
    evals = Evals()
    evals.arrived(files)
    found = figures(evals, tmp_path, files)
    assert found is not None
    assert (found.n, found.means["pass@1"].value) == (2, 0.5)
    assert found.setting.temperature == pytest.approx(0.5)


def test_they_are_the_figures_that_home_would_give(tmp_path: Path) -> None:
    """Whichever way they came to be known."""
    files = came(metrics_csv=METRICS, run_meta_json=META)
    put(tmp_path, files)
    evals = Evals()
    evals.arrived(files)
    assert figures(evals, tmp_path, files) == figures(Evals(), tmp_path, files)


def test_another_setting_is_another_version(tmp_path: Path) -> None:
    """A run_meta.json that came later counts, though metrics.csv is what it was."""
    first = came(metrics_csv=METRICS, run_meta_json=META)
    then = came(metrics_csv=METRICS, run_meta_json=LATER)
    put(tmp_path, then)
    evals = Evals()
    evals.arrived(first)
    evals.arrived(then[1:])
    found = figures(evals, tmp_path, then)
    assert found is not None
    assert found.setting.temperature == pytest.approx(0.25)


def test_metrics_that_came_first_are_read_with_their_setting_later(tmp_path: Path) -> None:
    """What arrived without its run_meta.json is known as that, and no more."""
    files = came(metrics_csv=METRICS, run_meta_json=META)
    evals = Evals()
    evals.arrived(files[:1])
    alone = figures(evals, tmp_path, files[:1])
    assert alone is not None
    assert alone.setting.temperature == pytest.approx(1)
    put(tmp_path, files)
    together = figures(evals, tmp_path, files)
    assert together is not None
    assert together.setting.temperature == pytest.approx(0.5)


def test_a_long_one_does_not_hold_up_its_publication(tmp_path: Path) -> None:
    """It is read from home when it is asked for, and then once."""
    files = came(metrics_csv=LONG)
    evals = Evals()
    evals.arrived(files)
    put(tmp_path, files)
    found = figures(evals, tmp_path, files)
    assert found is not None
    assert found.n == 40_000
    tmp_path.joinpath(*files[0][0].path).unlink()
    assert figures(evals, tmp_path, files) == found


def test_what_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    """An eval that a README had to leave out once, since its file could not be read, is in the next one."""
    files = came(metrics_csv=METRICS, run_meta_json=META)
    evals = Evals()
    assert figures(evals, tmp_path, files) is None
    put(tmp_path, files)
    assert figures(evals, tmp_path, files) is not None
