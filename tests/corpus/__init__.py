"""Inputs for the decoders of what a box sends, kept as files, and the program that makes them."""
