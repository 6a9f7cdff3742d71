"""Plans what to fetch, where each file belongs, and why something is left out. Pure: no I/O, no clock."""
