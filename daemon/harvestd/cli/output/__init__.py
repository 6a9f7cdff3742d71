"""The output of commands: pages, tables, progress bars, units, and JSON documents."""
