"""The files that are shipped with harvestd: units and configuration, in the package or, in a checkout, beside it."""

from importlib.resources import files
from pathlib import Path


def packaged(kind: str, name: str) -> str:
    """Return the text of the file `name` of a kind, "systemd" or "config".

    Raise FileNotFoundError for an unknown one.
    """
    package = files("harvestd")
    inside = package / "data" / kind / name
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # An editable installation: the package is in its source tree.
    return (Path(str(package)).parents[1] / kind / name).read_text(encoding="utf-8")
