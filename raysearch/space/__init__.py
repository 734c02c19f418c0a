"""A space: a distribution over recipes, and how it is searched. Every space file imports `Search` from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysearch.space.load import load_space
    from raysearch.space.search import Search
    from raysearch.space.space import Space

__all__ = ["Search", "Space", "load_space"]


def __getattr__(name: str) -> Any:
    # Ray and Optuna take seconds to import, and --help needs no more than the names of the spaces.
    if name == "load_space":
        from raysearch.space import load

        return load.load_space
    if name in __all__:
        from raysearch.space import space

        return getattr(space, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
