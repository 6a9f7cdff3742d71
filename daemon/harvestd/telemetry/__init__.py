"""What harvestd says about itself: `events` names it, `logs` writes it, `escaping` makes it safe to look at.

Nothing is re-exported here: `escaping` and `events` cost nothing to import, `logs` brings structlog.
"""
