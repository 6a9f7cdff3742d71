"""harvestd brings training runs and evals home from rented GPU boxes while they are being written."""

__version__ = "0.1.0"
