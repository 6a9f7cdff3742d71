"""What a start costs does not grow with the files of past experiments."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from harvestd.catalogue.open import open_catalogue
from support.history import write_history
from support.memory import bounded

MIB = 1024 * 1024


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the quickest of several turns."""
    took = []
    for _ in range(3):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def test_files_of_past_experiments_cost_a_start_nothing(tmp_path: Path) -> None:
    """50,000 of them: neither memory nor time beyond what their 100 experiments take."""
    write_history(tmp_path, "root-1", 100, 500)

    def start() -> None:
        with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
            assert len(catalogue.knowledge.experiments()) == 100
            assert not catalogue.knowledge.sections_with_files()

    start()
    with bounded(10 * MIB):
        assert seconds(start) < 0.3
