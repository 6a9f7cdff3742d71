"""The daemon's HTTP API: on a Unix socket for its own user, and on loopback where that is configured.

It reports the state of `Context` and `FleetMetrics`, and neither connects to hosts nor stores anything.
`README.md` beside this file is its contract.
"""
