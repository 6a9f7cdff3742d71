"""The program itself: greets, then answers each kind of request in a thread of its own."""

import os

from harvestd.remote.probe.program.facts import PYTHON, Facts
from harvestd.remote.probe.program.readings import Readings
from harvestd.remote.probe.program.requests import Queued, Requests, in_background, whole_or_none
from harvestd.remote.probe.program.watching import Watching
from harvestd.remote.probe.program.wire import Output, Wire, write_all

NICENESS = 10  # a tenth of a busy core's share; at 19 a box whose cores are all busy leaves us waiting for a minute


def run() -> None:
    """Greet, then answer until the input ends."""
    wire = Wire()
    requests = Requests(wire.credit)
    hello = requests.message()
    requests.silence = hello["silence"]
    os.nice(NICENESS)
    watching = Watching(Output(wire, b"s"))
    readings = Queued(Readings(Output(wire, b"r")).answer)
    facts = Queued(Facts(Output(wire, b"f")).answer)
    requests.takers = {"scan": watching.put, "read": readings.put, "facts": facts.put}
    wire.credit.grant(hello["credit"])
    wire.most_packed = hello["credit"] // 2
    write_all(memoryview(hello["marker"].encode("ascii")))
    greeting = Output(wire, b"h")
    greeting.json(b"H", {"python": PYTHON})
    greeting.flush()
    for background in (requests.listen, requests.watch, readings.run, facts.run):
        in_background(background)
    whole_or_none(watching.run)


if __name__ == "__main__":
    run()
