"""A space: a distribution over recipes, and how it is searched. Every space file begins with `Search` from here."""

from raysearch.space.load import load_space
from raysearch.space.space import Search, Space

__all__ = ["Search", "Space", "load_space"]
