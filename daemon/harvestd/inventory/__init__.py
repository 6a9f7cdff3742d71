"""Providers of hosts, and the merge of their sets. Nothing here connects to a host."""
