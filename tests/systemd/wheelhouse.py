"""What is given away of this checkout, and beside it all that it needs, so that pip in the machine asks nobody."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

_LOADING = 600.0
_BUILDING = ("hatchling",)
_ROOT = Path(__file__).parents[2]


def built_in(directory: Path) -> tuple[Path, Path]:
    """Build into a directory; gives the source archive, and the wheel that was built from it."""
    _call(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(_ROOT))
    (source,), (wheel,) = directory.glob("harvestd-*.tar.gz"), directory.glob("harvestd-*.whl")
    return source, wheel


def wheels_for(wheel: Path, cache: Path) -> Path:
    """Return a directory with the wheels of all that `wheel`, and building it, needs: as locked, loaded once."""
    lock = (_ROOT / "requirements.lock").read_text()
    pins = "\n".join(re.findall(r"^[a-z0-9._-]+==[^ ;\\]+", lock, re.MULTILINE))
    kept = cache / f"wheels-{hashlib.sha256(' '.join((pins, *_BUILDING)).encode()).hexdigest()[:12]}"
    if kept.is_dir():
        return kept
    half = cache / "wheels-half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    constraints = cache / "constraints.txt"
    constraints.write_text(pins)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    wanted = ("--python-version", "3.11", "--only-binary", ":all:", "--constraint", str(constraints))
    _call(*pip, *wanted, "--dest", str(half), str(wheel), *_BUILDING)
    for own in half.glob("harvestd-*"):
        own.unlink()
    half.rename(kept)
    return kept


def _call(*command: str) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LOADING
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
