"""The live screen of `harvestd status --watch`."""
