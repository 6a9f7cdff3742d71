"""The result of a host's scan: the snapshot, its runs and evals, and whether each file is complete. Pure."""
