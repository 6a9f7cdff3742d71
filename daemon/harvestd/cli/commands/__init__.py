"""One module for each family of commands: options, the call, the exit code."""
