"""A search as its flags resolve, before anything is trained."""
