"""The probe: a small program that is sent to a host at each connect, and the local client of its protocol."""
