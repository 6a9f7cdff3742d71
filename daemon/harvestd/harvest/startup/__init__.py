"""Start of a process that works on a data root: open, settle what was interrupted, rebuild, repair."""
