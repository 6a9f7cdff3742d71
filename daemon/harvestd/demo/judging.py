"""Compare a data root with the expected tree: paths, links and every byte."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from harvestd.convention.report_files import is_report
from harvestd.demo.expected import expected_files, expected_links, expected_manifests

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
    return parts[0] == _OWN or is_report(parts[1:])
