"""Install and remove unit, drop-in and first configuration in the places of systemd and harvestd.

Files that a person edited are never overwritten or removed; data and configuration are never removed.
"""
