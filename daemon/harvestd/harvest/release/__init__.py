"""Termination of cloud hosts: policy, automatic release by the daemon, manual release."""
