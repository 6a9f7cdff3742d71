"""Start-up of a process that works on a data root: opens it, settles interrupted work, rebuilds, repairs."""
