"""The stand-in for boxes that allow SFTP alone: the same answers as the probe's, slower and with less in them.

No change time, no inode, whole seconds, no hash from the box, and a walk that costs round trips.
"""
