"""Terminating hosts of the cloud: by policy, by the daemon, by hand."""
