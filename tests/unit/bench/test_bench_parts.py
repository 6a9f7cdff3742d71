"""What the benchmarks' figures come from: answers of an API, silent ports, past experiments, and processor time."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import ours
from bench.__main__ import SCENARIOS, _parser
from bench.api_requests import Requests, held
from bench.past import add_past_experiments
from bench.silence import Silence
from bench.timing import Unmeasurable, family_time, processor_time
from harvestd.catalogue import queries
from harvestd.catalogue.open import open_catalogue
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from support.waiting import until

pytestmark = pytest.mark.anyio

EXPERIMENT = ExperimentRecord("0123456789abcdef", ExperimentName(*(Part(each, "test") for each in "abcde")))
RUN = RunRecord(
    id="fedcba9876543210",
    storage="fs-1",
    place="/data/training_runs/run_2025-08-20_03-31-43",
    host="gpu-a",
    name="run_2025-08-20_03-31-43",
    config=ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k", gns_probe=True),
    config_version=Version(1, 2, 3, 4),
    experiment=EXPERIMENT.id,
)
FILE = FileRecord(
    storage=RUN.storage,
    place=f"{RUN.place}/config.yaml",
    target=LocalPath((EXPERIMENT.directory, "training_run", "config.yaml")),
    host=RUN.host,
    experiment=EXPERIMENT.id,
    kind=Kind.CONFIG,
    version=RUN.config_version,
    size=1,
    sha256="0" * 64,
    fetched_at=1.0,
    reason="",
)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Answer each request at a Unix socket with the same bytes."""

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_all_scenarios_are_measured_unless_some_are_named() -> None:
    """The parser takes each name, and none that is not there."""
    assert _parser().parse_args([]).only == tuple(SCENARIOS)
    assert _parser().parse_args(["--only", ",".join(SCENARIOS)]).only == tuple(SCENARIOS)
    with pytest.raises(SystemExit):
        _parser().parse_args(["--only", "no-such-row"])


def test_imports_that_are_timed_are_those_of_the_program() -> None:
    """Every module that is imported to time Python's start exists."""
    assert ours.IMPORTED
    assert all(find_spec(f"harvestd.{module}") for module in ours.IMPORTED)


async def test_each_answer_of_an_api_is_timed(tmp_path: Path) -> None:
    """Requests follow each other for as long as the context lasts."""
    with (
        answering(tmp_path / "api.sock", b"HTTP/1.1 200 OK\r\n\r\n{}"),
        Requests(tmp_path / "api.sock", "/healthz", 0.001) as requests,
    ):
        await until(lambda: len(requests.seconds) > 2)
    assert min(requests.answered()) > 0


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 No\r\n\r\n", b""])
def test_an_api_that_fails_is_not_taken_for_a_quick_one(tmp_path: Path, answer: bytes) -> None:
    """A refusal and a closed connection end the measurement."""
    with (
        answering(tmp_path / "api.sock", answer),
        Requests(tmp_path / "api.sock", "/healthz", 0.001) as requests,
    ):
        assert requests.wait_for_failure(20.0)
    with pytest.raises(Unmeasurable):
        requests.answered()


def test_only_what_answers_took_longer_than_usual_counts_as_held() -> None:
    """Usual answers count for nothing, however many they are."""
    assert held([0.002] * 1000, 0.010) == 0
    assert held([0.002, 0.110, 0.060], 0.010) == pytest.approx(0.15)


def test_a_silent_port_neither_accepts_nor_refuses() -> None:
    """A connection to it is not made, and does not fail by itself."""
    with Silence() as silence, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", silence.port), timeout=0.3)


async def test_past_experiments_are_whole_rows_of_hosts_that_are_gone(tmp_path: Path) -> None:
    """Each has the runs and files of the one that was fetched, an own directory, and no place of that host."""
    state = tmp_path / ".harvestd"
    with closing(open_catalogue(state, "root-1")) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([FILE])
    assert add_past_experiments(tmp_path, range(2)) == 1
    assert add_past_experiments(tmp_path, range(2, 3)) == 1
    with queries.questions(state) as connection:
        experiments = queries.experiments(connection)
        assert experiments.pop(EXPERIMENT.id) == EXPERIMENT
        assert sorted(each.directory for each in experiments.values()) == ["past_000000", "past_000001", "past_000002"]
        runs = {run.experiment: run for run in queries.runs(connection)}
        for each in experiments.values():
            assert (tmp_path / each.directory).is_dir()
            run, (file,) = runs[each.id], queries.files_of(connection, each.id)
            assert run == replace(RUN, id=run.id, storage=run.storage, host=run.host, experiment=each.id)
            assert file.target == LocalPath((each.directory, "training_run", "config.yaml"))
            assert (file.host, file.storage) == (run.host, run.storage)
            assert file.host != RUN.host
        assert queries.files_of(connection, EXPERIMENT.id) == [FILE]


def test_time_of_a_family_has_that_of_processes_that_have_ended() -> None:
    """A child's time counts while it runs, and when it was waited for."""
    work = "for _ in range(3_000_000): pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}]); print(); input()"
    process = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        assert family_time(process.pid) > processor_time(process.pid)
        process.stdin.write(b"\n")
