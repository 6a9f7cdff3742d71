"""Changes of the data root other than publishing: move, rename, remove, replace, link."""
