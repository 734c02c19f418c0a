"""How trials are compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf

from raysearch.record.goal import Requirement, standing
from raysearch.record.line import Row
from raysearch.record.metric import parts, score
from raysearch.record.trial import Trial


@dataclass(frozen=True)
class Rules:
    """How trials are compared.

    Args:
        rungs: epochs at which trials of one depth are compared, ascending; the last is the longest a trial trains.
        reduction: 1 in `reduction` goes on at each rung.
        metric: the validation metric of an epoch's row that decides, e.g. "val_accuracy"; the balance of several.
        larger_is_better: its direction.
        require: bounds that count before the metric.
        max_failures: how often a trial's process may die before the trial counts as failed.
        levels: the stages that trials search, by index: each is a level of the tree.
        most: trials that differ at each level; inf where something is searched without steps.
        beam: how many of the best trials of a level the next level's start from.
        tested: whether each level ends with a control and a verdict, of which "none" stops the search.
        lr_find: whether the learning rates of a level are bounded by a range test, once before it begins.
        deepest_wins: whether the best trial of the deepest level wins, though an earlier one may be better.
        networks: those that the search chooses among, the default's first; none: it has one.
        networks_kept: how many of them go on after the head search at most; None: all that are not clearly behind.
    """

    rungs: tuple[int, ...]
    reduction: int = 3
    metric: str = "val_accuracy"
    larger_is_better: bool = True
    require: tuple[Requirement, ...] = ()
    max_failures: int = 3
    levels: tuple[int, ...] = (1,)
    most: tuple[float, ...] = (inf,)
    beam: int = 3
    tested: bool = False
    lr_find: bool = False
    deepest_wins: bool = False
    networks: tuple[str, ...] = ()
    networks_kept: int | None = None

    def figure(self, row: Row) -> float:
        """The figure of an epoch's row that decides: the metric; of a head that was cross-validated, its mean over the
        folds.
        """
        return _of(row, self.metric)

    def figure_of(self, row: Row, metric: str) -> float:
        """The figure of another metric, found in the same way."""
        return _of(row, f"val_{metric}")

    def score(self, row: Row) -> float:
        """Larger is better, whatever the metric; what is required has no part in it."""
        return self.figure(row) if self.larger_is_better else -self.figure(row)

    @cached_property
    def several(self) -> tuple[str, ...]:
        """The metrics of a search that is after more than one; none where it is after one."""
        found = parts(self.metric.removeprefix("val_"))
        return found if len(found) > 1 else ()

    def scores(self, row: Row) -> tuple[float, ...]:
        """Of each metric that the search is after, so that larger is better."""
        if not self.several:
            return (self.score(row),)
        return tuple(score({one: self.figure_of(row, one)}, one) for one in self.several)

    def standings(self, row: Row) -> tuple[float, ...]:
        """How a row ranks by each metric: what is required comes before all of them."""
        short = self.shortfall(row)
        return tuple(standing(one, short) for one in self.scores(row))

    def shortfall(self, row: Row) -> float:
        """By how much a row misses what is required, added up; 0 where it keeps all."""
        return sum(one.shortfall({one.metric: self.figure_of(row, one.metric)}) for one in self.require)

    def standing(self, row: Row) -> float:
        """How a row ranks: see `raysearch.record.goal.standing`."""
        return standing(self.score(row), self.shortfall(row) if self.require else 0.0)

    def order(self, row: Row) -> tuple[float, float]:
        """The standing, and among equals the lower loss: larger is better."""
        return self.standing(row), -_of(row, "val_loss")

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The one with the best so far, the first of equals; those that have none yet are passed over."""
        scored = (trial for trial in trials if trial.best is not None)
        return max(scored, key=lambda trial: self.order(trial.best or {}), default=None)

    def better(self, trial: Trial, other: Trial) -> bool:
        """Whether a trial's best so far is better than another's."""
        return self.order(trial.best or {}) > self.order(other.best or {})


def _of(row: Row, name: str) -> float:
    """A validation figure of a row, or its cross-validated sister if there is one."""
    crossed = name.replace("val_", "cv_", 1)
    return row[crossed if crossed in row else name]
