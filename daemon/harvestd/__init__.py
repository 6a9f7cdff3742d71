"""harvestd copies training runs and evals from rented GPU hosts to a local data root while they are being written."""

__version__ = "0.1.0"
