"""Identity of runs and evals: runs that are seen twice, renamed, or trained from one another. Pure."""
