"""Checks of local files against their records and formats."""
