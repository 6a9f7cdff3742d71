"""A made-up fleet for newcomers and tests: boxes on loopback whose trees look like real training and eval software's.

Everything here plays the box. It never touches a data root, and nothing outside this package and the tests needs it.
"""
