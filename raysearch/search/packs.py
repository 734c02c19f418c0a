"""The heads of a search by the packs in which they train, and the best of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from raysearch.recipe import Head, Recipe
from raysearch.record.trial import Trial
from raysearch.search.rules import Rules


class Shape(NamedTuple):
    """What a trial must share with the head that it starts from."""

    network: str
    pooling: str
    head: Head


def shape_of(recipe: Recipe) -> Shape:
    """The shape of a recipe's classifier."""
    return Shape(recipe.network, recipe.pooling, recipe.head)


@dataclass
class Packs:
    """Every head of a search; the best are known without a look at all of them, for there may be thousands."""

    rules: Rules
    _members: dict[int, list[Trial]] = field(default_factory=dict)
    going: int = 0
    """How many heads have not come to their ends."""
    _going: dict[int, int] = field(default_factory=dict)
    """The same of each pack."""
    _best: dict[Shape, Trial] = field(default_factory=dict)
    """The best of each shape, among the packs that are over."""

    def add(self, number: int, head: Trial) -> None:
        """A head of a pack was made."""
        self._members.setdefault(number, []).append(head)
        self._going[number] = self._going.get(number, 0) + 1
        self.going += 1

    def ended(self, number: int) -> None:
        """One head of a pack has come to its end."""
        self._going[number] -= 1
        self.going -= 1
        if self._going[number]:
            return
        for head in self._members[number]:
            shape = shape_of(head.recipe)
            both = [one for one in (self._best.get(shape), head) if one is not None]
            if (best := self.rules.best(sorted(both, key=lambda one: one.number))) is not None:
                self._best[shape] = best

    @property
    def next_number(self) -> int:
        """The number of the pack after the last."""
        return 1 + max(self._members, default=-1)

    def of(self, number: int | None) -> list[Trial]:
        """The heads of a pack, whatever became of them."""
        return list(self._members.get(number, [])) if number is not None else []

    def latest_first(self) -> Iterator[Trial]:
        """All heads, the last first."""
        return (head for members in reversed(self._members.values()) for head in reversed(members))

    def over(self, number: int | None) -> bool:
        """Whether all heads of a pack have come to their ends."""
        return number is not None and not self._going[number]

    def best_of_each(self) -> list[Trial]:
        """The best of each shape, of the packs that are over, in the order in which they were made."""
        return sorted(self._best.values(), key=lambda head: head.number)

    def best(self, shape: Shape | None = None) -> Trial | None:
        """The best head of the packs that are over, the earliest of equals; if given, of this shape."""
        return self.rules.best(one for one in self.best_of_each() if shape in (None, shape_of(one.recipe)))

    def best_of(self, network: str) -> Trial | None:
        """The best head of a network, of the packs that are over."""
        return self.rules.best(one for one in self.best_of_each() if one.network == network)
