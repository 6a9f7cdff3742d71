"""The command line: one file for each family of commands. Importing this package is cheap; a command's file is not."""
