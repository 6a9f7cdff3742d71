"""What a person sees in an experiment's directory: its README, and in `analysis/` scripts and their pictures.

`scripts/` is no package: its files are copied out whole, and run there with Python and matplotlib alone. Nothing here
decides what is fetched or where it is filed.
"""
