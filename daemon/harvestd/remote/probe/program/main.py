"""The program's entry point: greets, then answers each kind of request in a thread of its own."""

import os

from harvestd.remote.probe.program.facts import PYTHON, Facts
from harvestd.remote.probe.program.readings import Readings
from harvestd.remote.probe.program.requests import Queued, Requests, in_background, whole_or_none
from harvestd.remote.probe.program.watching import Watching
from harvestd.remote.probe.program.wire import OUTPUT_BYTES, Credit, Output, Wire, write_all

NICENESS = 10  # a tenth of a busy core's share; at 19 an answer of a fully busy host takes a minute


def run() -> None:
    """Greet, then answer until the input ends."""
    requests = Requests()
    hello = requests.message()
    requests.silence = hello["silence"]
    os.nice(NICENESS)
    wire = Wire()
    accounts = requests.credits = {of: Credit(count) for of, count in hello["credit"].items()}
    watching = Watching(Output(wire, accounts["s"], b"s"), requests)
    readings = Queued(Readings(Output(wire, accounts["r"], b"r")).answer)
    facts = Queued(Facts(Output(wire, accounts["f"], b"f")).answer)
    requests.takers = dict.fromkeys(("facts", "processes", "circumstances", "links"), facts.put)
    requests.takers.update(scan=watching.put, read=readings.put)
    write_all(memoryview(hello["marker"].encode("ascii")))
    greeting = Output(wire, Credit(OUTPUT_BYTES), b"h")
    greeting.json(b"H", {"python": PYTHON})
    greeting.flush()
    for background in (requests.listen, requests.watch, readings.run, facts.run):
        in_background(background)
    whole_or_none(watching.run)


if __name__ == "__main__":
    run()
