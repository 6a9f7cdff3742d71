"""What the daemon tells and takes over HTTP: on a Unix socket of its own user, and on loopback where that is asked for.

It says what `House` and `Tally` know, asks no box, and keeps nothing by itself. See `README.md` beside this file.
"""
