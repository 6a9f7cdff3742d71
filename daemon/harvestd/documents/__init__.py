"""The JSON documents of hosts, runs and verdicts: one form for every `--json` and for the API."""
