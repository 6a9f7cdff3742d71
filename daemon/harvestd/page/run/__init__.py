"""The view of one run: strips of its curves, results of its evals, files, configuration and verdict."""
