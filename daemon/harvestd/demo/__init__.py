"""A made-up fleet for new users and tests: hosts on loopback with realistic training and eval trees.

Everything here simulates hosts. It never touches a data root, and only the tests use it beyond this package.
"""
