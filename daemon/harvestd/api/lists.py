"""All hosts and runs of the catalogue, in the documents that `harvestd hosts --json` and `harvestd runs --json` print.

The functions read the database: call them in a thread. They raise `HarvestError` as opening the catalogue does.
"""

from itertools import islice

from harvestd.catalogue import queries
from harvestd.documents import stored
from harvestd.documents.forms import Document
from harvestd.documents.stored import Standings
from harvestd.settings import Settings
from harvestd.telemetry.serialize import plain


def hosts(settings: Settings) -> dict[str, object]:
    """Return all hosts that are configured or were ever seen, by name."""
    with queries.questions(settings.state) as connection:
        views = stored.hosts(connection, settings)
    return {"hosts": _escaped([view.document(watched=view.is_watched(daemon=True)) for view in views])}


def runs(settings: Settings, limit: int) -> dict[str, object]:
    """Return the newest `limit` runs that were ever seen, newest first."""
    with queries.questions(settings.state) as connection:
        found = list(islice(queries.runs(connection), limit))
        experiments = queries.experiments(connection)
        standings = Standings(connection)
    return {"runs": _escaped(stored.run_documents(found, experiments, standings))}


def _escaped(found: list[Document]) -> list[object]:
    return [plain(document) for document in found]
