"""What is known, kept: one SQLite database beside the data root, and its image in memory for planners.

It is ahead of the manifests and behind the disk: a row that says a file is here is written after that file was synced.
"""
