"""One search, from flags to a finished run."""
