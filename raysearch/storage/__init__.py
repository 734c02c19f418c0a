"""Files that survive, here and elsewhere."""
