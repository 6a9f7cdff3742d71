"""The names of the configuration and the catalogue, for a shell to complete, without network access."""

from collections.abc import Iterable

from harvestd.catalogue import queries
from harvestd.documents import stored
from harvestd.settings import Settings


def hosts(settings: Settings) -> Iterable[str]:
    """Return the names of hosts; raise `HarvestError` where the catalogue can't be read, as the others do."""
    with queries.questions(settings.state) as connection:
        return [host.name for host in stored.hosts(connection, settings)]


def runs(settings: Settings) -> Iterable[str]:
    """Return the names of runs, the newest first."""
    with queries.questions(settings.state) as connection:
        return [run.name for run in queries.runs(connection)]


def runs_and_experiments(settings: Settings) -> Iterable[str]:
    """Return the names of runs, and of the directories of experiments."""
    with queries.questions(settings.state) as connection:
        directories = [each.directory for each in queries.experiments(connection).values()]
        return [*(run.name for run in queries.runs(connection)), *directories]
