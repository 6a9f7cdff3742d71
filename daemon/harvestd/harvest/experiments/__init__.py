"""The directories of experiments: their names, their manifests and their reports."""
