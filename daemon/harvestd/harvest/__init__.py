"""One host's life: connect, look, understand, plan, fetch, publish, record; and what all hosts share while they do.

Structured: a host is one task, its bulk transfers are tasks below it, and whatever goes wrong with one host ends there.
"""
