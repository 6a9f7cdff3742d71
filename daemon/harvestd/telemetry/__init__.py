"""harvestd's events: `events` defines their names, `log` writes them, `sanitize` makes their text safe to display.

Nothing is re-exported here: `sanitize` and `events` are cheap to import, `log` imports structlog.
"""
