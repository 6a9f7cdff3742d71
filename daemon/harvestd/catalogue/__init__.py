"""The catalogue: one SQLite database with all records, and its index in memory for planners.

It is ahead of the manifests and behind the disk: a file's row is written after the file was synced.
"""
