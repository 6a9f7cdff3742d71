"""Alarms: what a person should learn of, and how it reaches the receivers of [notify].

`conditions`, `messages` and `schedule` are pure: which conditions are news, in what words, and what is sent when.
`observation` reads the state of the daemon, `alarms` records what is news and has it sent, `receivers` send it, and
`heartbeat` requests its URL.
"""
