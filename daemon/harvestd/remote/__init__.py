"""One host over SSH: connecting, host keys, the probe, its SFTP stand-in. Knows nothing of runs or of local files."""
