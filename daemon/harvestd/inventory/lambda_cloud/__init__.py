"""The instances of a Lambda Cloud account."""
