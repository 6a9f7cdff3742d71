"""Makes the plan of one host from what it shows and from the records, directory by directory. Pure."""
