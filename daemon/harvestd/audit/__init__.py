"""What is here, held against what is on record; and a lost record made anew from what is here.

Reads the data root through the store's door, and writes nothing there. Whoever repairs is `harvest`.
"""
