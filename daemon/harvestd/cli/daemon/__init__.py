"""Access of commands to the running daemon: its socket, its lock, and the requests in the catalogue."""
