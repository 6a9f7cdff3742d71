"""Bytes from a host to their places in the data root: small files, large files, growing files."""
