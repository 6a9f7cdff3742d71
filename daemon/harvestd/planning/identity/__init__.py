"""Which directory is which: runs that are seen twice, renamed, or trained from one another. Pure."""
