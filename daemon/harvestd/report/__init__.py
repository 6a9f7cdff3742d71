"""The reports of an experiment: its README, and in `analysis/` scripts and their pictures.

`scripts/` is not used as a package: its files are copied into experiments, and run there with Python and matplotlib
alone. Nothing here decides what is fetched or where it is stored.
"""
