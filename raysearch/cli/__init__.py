"""The commands other than the search: `raysearch VERB`."""
