"""Whose hardware a run is named after: that of the machine that wrote it, where it is known."""

import pytest
from msgspec.structs import replace

from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.state import Machines
from harvestd.inventory.host import Host
from harvestd.remote.api import BoxFacts
from harvestd.settings import Settings

pytestmark = pytest.mark.anyio

A = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")
B = Host("static:gpu-b", "gpu-b", "192.0.2.2", "static")
C = Host("static:gpu-c", "gpu-c", "192.0.2.3", "static")


def test_the_writer_is_found_by_what_it_calls_itself() -> None:
    """A run that is shown by one host and was written by another one that we met is the other's."""
    machines = Machines()
    machines.record(A, BoxFacts(hostname="node-1"))
    machines.record(B, BoxFacts(hostname="node-2", gpu_names=("NVIDIA A10",)))
    found = machines.writing("node-2", A)
    assert found is not None
    assert (found.host, found.facts.gpu_names) == (B, ("NVIDIA A10",))


def test_who_shows_its_own_run_or_that_of_a_stranger_is_asked_itself() -> None:
    """Nobody else is found for a host's own run, for one without a TensorBoard file, or of a machine not met."""
    machines = Machines()
    machines.record(A, BoxFacts(hostname="node-1"))
    machines.record(B, BoxFacts(hostname=""))
    for writer in ("node-1", "node-9", "", None):
        assert machines.writing(writer, A) is None


def test_a_name_that_several_machines_have_is_not_guessed() -> None:
    """Two machines of one name: neither is taken for the writer."""
    machines = Machines()
    for host in (B, C):
        machines.record(host, BoxFacts(hostname="localhost"))
    assert machines.writing("localhost", A) is None


async def test_naming_takes_the_hardware_of_the_writer_and_the_rest_of_who_shows_the_run() -> None:
    """What the operator and the cloud say of a host goes with its machine; the experiment's tag does not."""
    house = Context.of(Settings(), NullListener())
    writer = replace(B, hardware="h100", instance_type="gpu_8x_a100", gpus=8, experiment="theirs")
    shower = replace(A, hardware="a10", experiment="ours")
    house.fleet.machines.record(writer, BoxFacts(hostname="node-2", gpu_names=("NVIDIA A100",)))
    context = house.naming_of(shower, ("NVIDIA A10",), "node-2")
    assert (context.host, context.experiment, context.machine) == ("gpu-a", "ours", "gpu-b")
    assert (context.hardware, context.instance_type, context.gpus) == ("h100", "gpu_8x_a100", 8)
    assert context.gpu_names == ("NVIDIA A100",)
    own = house.naming_of(shower, ("NVIDIA A10",), "node-1")
    assert (own.machine, own.hardware, own.gpus, own.gpu_names) == (None, "a10", None, ("NVIDIA A10",))
