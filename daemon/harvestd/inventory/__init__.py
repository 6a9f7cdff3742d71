"""Which hosts exist: providers that each know some, and the merger of what they say. Nothing here connects to a box."""
