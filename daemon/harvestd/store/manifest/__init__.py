"""`manifest.json` of an experiment: its model, and reading and writing the file."""
