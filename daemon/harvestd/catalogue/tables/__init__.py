"""Tables of the catalogue that only one part of harvestd reads and writes, one module each."""
