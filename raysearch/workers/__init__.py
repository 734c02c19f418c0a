"""All that is Ray."""
