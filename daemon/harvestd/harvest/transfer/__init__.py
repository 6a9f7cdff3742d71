"""Transfers from a host to the data root: small files, large files, growing files."""
