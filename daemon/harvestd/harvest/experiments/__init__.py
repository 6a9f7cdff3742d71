"""Experiment directories: their names, manifests and reports."""
