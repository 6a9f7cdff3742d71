"""The analysis scripts, and the modules that they share with the README; they are copied beside each experiment."""
