"""One host over SSH: connections, host keys, the probe, and SFTP in its place; independent of runs and local files."""
