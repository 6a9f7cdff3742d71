"""Changes to the data root other than publishing: move, rename, remove, replace, link."""
