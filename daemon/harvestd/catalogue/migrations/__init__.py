"""Alembic's scripts: how the catalogue's tables came to be what they are."""
