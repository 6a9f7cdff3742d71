"""Compares local files with their records, and restores a lost catalogue from local files.

Reads the data root through `store`, and writes nothing there. Repairs are made by `harvest`.
"""
