"""Unit, drop-in and first configuration: put where systemd and harvestd look for them, and taken away again.

What a person edited is never overwritten nor removed, and data and configuration are never removed at all.
"""
