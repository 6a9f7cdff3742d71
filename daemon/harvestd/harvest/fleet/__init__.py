"""All hosts: one supervisor each, their connections, and what the inventory changes."""
