"""The daemon's HTTP API: on a Unix socket for its own user, and on loopback where that is configured.

It reports the state of `Context` and `FleetMetrics`, connects to no host, and stores nothing itself. See `README.md` beside this
file.
"""
