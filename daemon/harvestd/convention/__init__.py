"""The naming convention, pure: what lies on a box, where it belongs at home, when it is complete, what is wanted.

Nothing below this package does I/O, reads a clock or knows the other rooms; every function is a table lookup or a
computation on frozen values, so all of it can be tested without a box, a disk or an event loop.
"""
