"""The engine: connects to each host, scans it, plans, fetches, publishes and records; and what all hosts share.

Concurrency is structured: each host is one task, its bulk transfers are child tasks, and an error of one host ends
there.
"""
