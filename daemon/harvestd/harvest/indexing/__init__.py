"""Records what a host's small files say of its runs and evals, before any of their files can be planned."""
