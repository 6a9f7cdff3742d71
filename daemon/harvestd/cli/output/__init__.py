"""What commands print: pages, tables, progress bars, units, and the JSON documents beside them."""
