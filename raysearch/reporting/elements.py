"""What the report page is put together from: figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raysearch.reporting.charts import Figure


@dataclass(frozen=True)
class Plot:
    """A figure on the page."""

    name: str
    """Its place in the page's addresses, e.g. "tree"."""
    figure: Figure
    label: str
    """What it shows, for those who do not see it."""
    caption: str = ""
    """How to read it."""


@dataclass(frozen=True)
class Table:
    """A table on the page; cells are text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    """The columns that hold words, which stand left; numbers stand right."""
    groups: Sequence[tuple[str, int]] = ()
    """Headings above the columns, each over so many of them; none: no such row."""


def percent(share: float, digits: int = 1) -> str:
    """A share in a sentence, e.g. "71.0 %"."""
    return f"{100 * share:.{digits}f} %"
