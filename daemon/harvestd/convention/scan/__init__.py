"""What a scan of a host shows: the snapshot, its runs and evals, and whether each file is complete. Pure."""
