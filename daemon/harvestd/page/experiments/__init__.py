"""The views of experiments: the table of all, one experiment, and several compared."""
