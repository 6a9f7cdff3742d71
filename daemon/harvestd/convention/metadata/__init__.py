"""Values read from a run's own files, and the names that follow from them. Pure."""
