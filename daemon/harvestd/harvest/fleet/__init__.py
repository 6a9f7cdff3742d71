"""All hosts: one supervisor each, their connections, and the changes of the inventory."""
