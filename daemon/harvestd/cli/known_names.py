"""The names that the configuration and the catalogue know, for a shell to complete. Asks nothing over a network."""

from collections.abc import Iterable

from harvestd.catalogue import reading
from harvestd.cli import overview
from harvestd.settings import Settings


def hosts(settings: Settings) -> Iterable[str]:
    """Give the names of hosts; these raise `HarvestError` where the catalogue can't be read."""
    with reading.questions(settings.state) as connection:
        return [host.name for host in overview.hosts(connection, settings)]


def runs(settings: Settings) -> Iterable[str]:
    """Give the names of runs, the newest first."""
    with reading.questions(settings.state) as connection:
        return [run.name for run in reading.runs(connection)]


def runs_and_experiments(settings: Settings) -> Iterable[str]:
    """Give the names of runs, and of the directories of experiments."""
    with reading.questions(settings.state) as connection:
        directories = [each.directory for each in reading.experiments(connection).values()]
        return [*(run.name for run in reading.runs(connection)), *directories]
