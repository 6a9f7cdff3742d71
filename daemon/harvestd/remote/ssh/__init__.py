"""SSH connections: options, keys, host keys, jump hosts, and limits on what a host may send."""
