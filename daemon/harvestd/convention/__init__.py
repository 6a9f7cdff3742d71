"""The naming convention: what a host's trees hold, where each file belongs locally, when it is complete.

The package is pure: it does no I/O, reads no clock and imports no package of harvestd that does. Every function is a
table lookup or a computation on frozen values, so it can be tested without a host, a disk or an event loop.
"""
