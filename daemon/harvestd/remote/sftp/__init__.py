"""Scans and reads for hosts that allow SFTP alone: the same answers as the probe's, slower and less complete.

There is no change time, no inode, no hash from the host; times are whole seconds, and a scan costs round trips.
"""
