"""What a search is after: a metric or several, and bounds that must be kept before they count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raysearch.errors import InputError
from raysearch.record.metric import RETRIEVAL, check_metric, larger_is_better, measured, parts, score

_WRITTEN = re.compile(r"^(?P<metric>.+?)\s*(?P<sign>>=|<=)\s*(?P<bound>[^<>=]+)$", re.DOTALL)
_BELOW_ALL = -1e6
"""Below the score of any metric, also below a loss turned round."""


@dataclass(frozen=True)
class Requirement:
    """A bound on one metric."""

    metric: str
    bound: float

    @property
    def sign(self) -> Literal[">=", "<="]:
        """The side of the bound that is wanted: the metric's better one."""
        return ">=" if larger_is_better(self.metric) else "<="

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """A requirement as it is typed, e.g. "recall:pneumonia>=0.97".

        Raises:
            InputError: it is none, its sign points to the worse side, or its bound is no figure of the metric.
        """
        found = _WRITTEN.match(text.strip())
        if found is None:
            raise InputError(f'--require {text!r}: write METRIC>=NUMBER, e.g. --require "recall:pneumonia>=0.97"')
        metric, sign = found["metric"], found["sign"]
        try:
            bound = float(found["bound"])
        except ValueError:
            raise InputError(f"--require {text!r}: {found['bound']!r} is no number, e.g. {metric}{sign}0.97") from None
        made = cls(metric, bound)
        if sign != made.sign:
            better = "higher" if made.sign == ">=" else "lower"
            raise InputError(f"--require {text!r}: {metric} is better {better}; write {metric}{made.sign}{bound:g}")
        if not (0 <= bound <= 1 if made.sign == ">=" else 0 <= bound < math.inf):
            hint = f"; {bound:g} % is {bound / 100:g}" if 1 < bound <= 100 else ""
            raise InputError(f"--require {text!r}: {metric} is from 0 to 1{hint}")
        return made

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:.10g}"

    def shortfall(self, figures: Mapping[str, float]) -> float:
        """By how much figures (as of `raysearch.record.metric.score`) miss the bound; 0 where they keep it."""
        value = measured(figures, self.metric)
        gap = self.bound - value if self.sign == ">=" else value - self.bound
        return math.inf if math.isnan(gap) else max(0.0, gap)


@dataclass(frozen=True)
class Goal:
    """A metric, and what is required beside it."""

    metric: str
    """Of several, with commas between them, their balance leads: see `raysearch.record.metric.measured`."""
    require: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, metric: str, require: Sequence[str] = ()) -> Goal:
        """The goal of a search's settings.

        Raises:
            InputError: a requirement cannot be read.
        """
        return cls(metric, tuple(Requirement.parse(one) for one in require))

    def __str__(self) -> str:
        return " if ".join([self.metric, *([" and ".join(map(str, self.require))] if self.require else [])])

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that it names, each once."""
        return tuple(dict.fromkeys((*parts(self.metric), *(one.metric for one in self.require))))

    @property
    def measured(self) -> tuple[str, ...]:
        """What a classifier is to be measured by: the balance of several, too."""
        return tuple(dict.fromkeys((*self.metrics, self.metric)))

    def check(self, classes: Sequence[str] | None) -> list[str]:
        """What is wrong with its metrics for these classes, a sentence each."""
        problems: list[str] = []
        for name in dict.fromkeys((self.metric, *self.metrics)):
            try:
                check_metric(name, classes)
            except InputError as error:
                problems += [one for one in error.problems if one not in problems]
        if self.require and (found := [one for one in self.metrics if one in RETRIEVAL]):
            problems.append(
                f"--require: {found[0]} is of embeddings, and bounds are for answers; search by it without --require"
            )
        return problems

    @property
    def of_answers(self) -> Goal:
        """What answers are compared by, where no embeddings are at hand: accuracy in the place of what needs them."""
        return Goal("accuracy") if self.metric in RETRIEVAL else self

    def shortfall(self, figures: Mapping[str, float]) -> float:
        """By how much figures miss the bounds, added up; 0 where they keep all."""
        return sum(one.shortfall(figures) for one in self.require)

    @property
    def several(self) -> tuple[str, ...]:
        """The metrics of a search that is after more than one; none where it is after one."""
        found = parts(self.metric)
        return found if len(found) > 1 else ()

    def standings(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """How figures rank by each metric: what is required comes before all of them."""
        short = self.shortfall(figures)
        return tuple(standing(score(figures, one), short) for one in parts(self.metric))

    def score(self, figures: Mapping[str, float]) -> float:
        """How figures rank: see `standing`."""
        return standing(score(figures, self.metric), self.shortfall(figures))


def standing(score: float, shortfall: float) -> float:
    """How a figure ranks among others: larger is better, and those that keep all bounds are before those that do not.

    Among the first the metric decides, among the others the nearness to the bounds (the rules of Deb 2000). It is for
    comparing, not for arithmetic: differences across the bounds mean nothing.

    Args:
        score: of the metric; larger is better.
        shortfall: by how much the bounds are missed.
    """
    return _BELOW_ALL - shortfall if shortfall else score
