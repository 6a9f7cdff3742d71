"""SSH connections: options, keys, host keys, jump hosts, and what a host may send."""
