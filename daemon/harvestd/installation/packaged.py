"""The files that come with harvestd: units and configuration, inside the package or, in a checkout, beside it."""

from importlib.resources import files
from pathlib import Path


def packaged(kind: str, name: str) -> str:
    """Return the text of the file `name` of a kind, "systemd" or "config"; raises FileNotFoundError for one unknown."""
    package = files("harvestd")
    inside = package / "data" / kind / name
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # An editable installation: the package lies in its source tree.
    return (Path(str(package)).parents[1] / kind / name).read_text(encoding="utf-8")
