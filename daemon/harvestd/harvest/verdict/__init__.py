"""Verdicts on hosts: evidence, a service that keeps them up to date, and verdicts on demand."""
