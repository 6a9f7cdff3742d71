"""The probe: a small program that is sent to a box at each connect, and our end of its conversation."""
