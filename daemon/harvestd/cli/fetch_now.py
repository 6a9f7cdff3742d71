"""Carry out `harvestd fetch` where no daemon runs, and write its answer: the page and the JSON document."""

from collections.abc import Sequence

from harvestd.cli import offers
from harvestd.cli.commands.once import exit_code_of, tell_troubles, visit
from harvestd.cli.daemon.presence import daemon_document, holder_of
from harvestd.cli.daemon.wait_requests import answers
from harvestd.cli.errors import tell_warning
from harvestd.cli.flags import Flags
from harvestd.cli.interrupts import run_interruptible
from harvestd.cli.offers import Subject
from harvestd.cli.output import pass_summary, requests
from harvestd.cli.output.page import Page, print_json
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.harvest.host import passes
from harvestd.harvest.host.passes import HostOutcome
from harvestd.inventory.host import Host
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind


class Call(Immutable):
    """One call of a command that makes requests."""

    settings: Settings
    found: Subject
    made: tuple[int, ...]
    """The ids of the requests that it recorded."""
    as_json: bool

    def document(self) -> dict[str, object]:
        """Return the JSON document; sizes in bytes."""
        return {
            "run": self.found.run.name,
            "host": self.found.run.host,
            "path": self.found.run.place,
            "daemon": daemon_document(holder_of(self.settings)),
            "offers": offers.documents(self.found),
            "requests": requests.documents(answers(self.settings, self.made)),
        }

    def tell(self, outcomes: Sequence[HostOutcome] = (), note: str = "") -> None:
        """Write the answer: the requests' state, the result of a pass if one was made, and a note for people."""
        if self.as_json:
            visited = {"hosts": pass_summary.document(outcomes)["hosts"]} if outcomes else {}
            print_json(self.document() | visited)
            return
        page = Page()
        if outcomes:
            pass_summary.write(page, outcomes, verbose=False)
        page.heading(f"{self.found.run.name}: asked for by hand")
        page.table(requests.COLUMNS, requests.rows(answers(self.settings, self.made)))
        if note:
            page.line(note)

    def came(self) -> ExitCode:
        """Return whether everything requested is here, as an exit code."""
        missing = any(each.is_open or each.is_refused for each in answers(self.settings, self.made))
        return ExitCode.PARTIAL if missing else ExitCode.OK


def hand_over(call: Call, found: Holder | None) -> ExitCode:
    """Answer that the process that holds the data root will fetch it, or that a later one will."""
    if found is not None and found.kind is HolderKind.COMMAND:
        note = f"a command, process {found.pid}, holds the data root; the next daemon or pass fetches it"
    elif found is not None and found.pid:
        note = f"The daemon, process {found.pid}, fetches it."
    else:
        note = "The daemon that is starting fetches it."
    call.tell(note=note)
    return ExitCode.OK


def fetch_now(call: Call, flags: Flags) -> ExitCode:
    """Make a pass over the hosts that show the requested files, where no daemon runs, and write the answer."""
    names = _hosts(call)
    try:
        outcomes = run_interruptible(_pass, call, flags, names)
    except Fatal as e:
        if e.exit_code is not ExitCode.LOCKED:
            raise
        # A daemon was started meanwhile.
        return hand_over(call, holder_of(call.settings))
    if not outcomes:
        tell_warning(f"{', '.join(names)} is not known any more", "it stays asked for, should the host come back")
        return ExitCode.NO_HOST
    tell_troubles(call.settings, outcomes, ())
    call.tell(outcomes)
    return exit_code_of(outcomes) or call.came()


async def _pass(call: Call, flags: Flags, names: Sequence[str]) -> list[HostOutcome]:
    storages = {run.storage for run in call.found.runs}
    known = await passes.find_hosts(call.settings)
    wanted = [host for host in known.hosts if host.name in names]
    if not any(_storage(host) in storages for host in wanted):
        # Another host may show the same file system.
        wanted += [host for host in known.hosts if _storage(host) in storages][:1]
    if not wanted and known.failures:
        raise known.failures[0]
    return await visit(call.settings, flags, wanted) if wanted else []


def _storage(host: Host) -> str:
    return host.storage or host.identity


def _hosts(call: Call) -> list[str]:
    """Return the hosts that show the requested files, and those that showed the run."""
    offered = (call.found.offer(each.thing) for each in answers(call.settings, call.made))
    return sorted({*(run.host for run in call.found.runs), *(host for each in offered if each for host in each.hosts)})
