"""Verdicts: their evidence is collected, they are kept up to date, and made on demand."""
