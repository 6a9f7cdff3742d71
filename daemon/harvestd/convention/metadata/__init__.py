"""Readers for the metadata in a run's own files, and the experiment names made from it. Pure."""
