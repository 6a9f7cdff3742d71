"""The audit of a data root, and the repair of what it found."""
