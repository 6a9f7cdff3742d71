"""The command line: one file for each family of commands. Importing it costs nothing; a command's own file does."""
