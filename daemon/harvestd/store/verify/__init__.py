"""Comparing files at home with what is on record."""
