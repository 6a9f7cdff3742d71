"""`manifest.json` of an experiment: its model, and the file."""
