"""What is built from this checkout, installed as a user would, away from it and without a network."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import harvestd
from harvestd.commit import commit, described

ROOT = Path(harvestd.__file__).parents[2]
DEADLINE = 300.0


def call(*words: str | Path) -> str:
    """Run a command away from this checkout, and without what it sets; gives its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HARVESTD_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, words)), check=False, capture_output=True, text=True, cwd="/", env=kept, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution and, from that alone, the wheel."""
    directory = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT)
    return directory


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment, beside the libraries of this one; gives where its programs are."""
    place = tmp_path_factory.mktemp("venv")
    call(sys.executable, "-m", "venv", "--without-pip", place)
    (wheel,) = built.glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", place, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def test_both_hold_all_that_is_needed(built: Path) -> None:
    """Units, configuration and examples are inside the wheel, each as it is here; the sources can make it again."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for kind in ("systemd", "config"):
            here = [path for path in (ROOT / kind).rglob("*") if path.is_file()]
            assert here
            for path in here:
                inside = f"harvestd/data/{kind}/{path.relative_to(ROOT / kind)}"
                assert archive.read(inside) == path.read_bytes()
    for kind in ("templates", "static"):
        page = ROOT / "daemon" / "harvestd" / "page" / kind
        shown = {f"harvestd/page/{kind}/{path.relative_to(page)}" for path in page.rglob("*") if path.is_file()}
        assert shown
        assert shown <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "systemd/harvestd.service"} <= held


def test_what_is_installed_runs(installed: Path, tmp_path: Path) -> None:
    """The program, its version with the commit, its checks and its unit work away from the checkout."""
    place = call(installed / "python", "-c", "import harvestd; print(harvestd.__file__)")
    assert place.startswith(str(installed.parent))
    version = call(installed / "harvestd", "--version").strip()
    assert version == (f"harvestd {harvestd.__version__} ({commit()})" if commit() else version)
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\n[[hosts]]\nname = "gpu-a"\naddress = "127.0.0.1"\n')
    assert "1 host" in call(installed / "harvestd", "check", "-c", config)
    unit = call(
        installed / "python",
        "-c",
        "from harvestd.installation import packaged as p;print(p('systemd', 'harvestd.service'), end='')",
    )
    assert unit == (ROOT / "systemd" / "harvestd.service").read_text()


def test_a_version_never_fails_for_want_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a checkout, in a broken one and without git, the commit is simply not known."""
    assert described(tmp_path) == ""
    (tmp_path / ".git").write_text("gitdir: /does/not/exist")
    assert described(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert described(ROOT) == ""
