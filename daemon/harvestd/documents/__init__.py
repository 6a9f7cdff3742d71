"""The JSON documents of hosts, runs, experiments and verdicts: one form for every `--json` and for the API."""
