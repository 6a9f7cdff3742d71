"""The curves of a run: an index of its train_log.jsonl, small enough to be kept and to be sent."""
