"""How long a search takes, and how much disk, with some depths cached and so many views: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_WRITTEN_BYTES_PER_SECOND = 5e8
_STORED_BYTES = {"fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class DepthCosts:
    """What one image costs at one depth, in seconds of one trial's share of the machine."""

    prefix: float
    """The frozen part, forward, in the training's precision; 0 where nothing is frozen."""
    exact: float
    """The same in fp32, as for validation images."""
    suffix: float
    """A training step of the rest."""
    evaluate: float
    """The rest forward, fp32."""
    read: float
    """Its boundary activations, from the page cache."""
    numbers: int
    """How many its boundary activations have; at depth 0, how many are stored there (average and maximum)."""


@dataclass(frozen=True)
class Costs:
    """What `measure` found."""

    augment: float
    """Seconds an image."""
    depths: Mapping[int, DepthCosts]


@dataclass(frozen=True)
class Reads:
    """What a search is expected to train at one depth."""

    trials: tuple[float, ...]
    """How many trials train the first epoch, the second, and so on: see `expected_trials`."""
    strengths: tuple[float, ...] | None = (0.0,)
    """The augmentation's strengths that trials choose from, each as likely; None: any number, so no two share views."""

    @property
    def epochs(self) -> float:
        """Trial-epochs."""
        return sum(self.trials)

    @property
    def moving(self) -> float:
        """The share of trials that augment."""
        return 1.0 if self.strengths is None else sum(s > 0 for s in self.strengths) / len(self.strengths)


@dataclass(frozen=True)
class Workload:
    """What a search has before it."""

    images: int
    """Training images."""
    val_images: int
    concurrent: int
    """Trials at once."""
    depths: Mapping[int, Reads]
    seed: int
    """The seed of the search's augmentation."""
    workers: int = 1
    """How many train each trial, heads aside: they share out its images, while one of them fills the cache for all."""


class Forecast:
    """Seconds by the clock and bytes, for any choice of depths and views.

    Args:
        costs: of every depth of the workload.
        work: what is going to be trained.
        memory_bytes: of one trial, for activations that do not change; they are kept there if they are not cached.
        dtype: of stored training activations.
    """

    def __init__(self, costs: Costs, work: Workload, memory_bytes: int, dtype: str) -> None:
        self.costs, self._work, self._memory = costs, work, memory_bytes
        self._stored = _STORED_BYTES[dtype]

    def seconds(self, cached: Iterable[int], views: int) -> dict[int, float]:
        """The time that each depth takes."""
        filling = self.filling(cached, views)
        return {d: filling.get(d, 0.0) + self.training(d, cached=d in filling) for d in self._work.depths}

    def training(self, depth: int, *, cached: bool) -> float:
        """Seconds of all work at a depth but filling."""
        work, cost, reads = self._work, self.costs.depths[depth], self._work.depths[depth]
        images, val_images = reads.epochs * work.images, reads.epochs * work.val_images
        workers = work.workers if depth else 1
        at_once = work.concurrent * workers
        spent = images * cost.suffix + val_images * cost.evaluate
        if cached:
            return (spent + (images + val_images) * cost.read) / at_once
        spent += reads.moving * images * (cost.prefix + self.costs.augment)
        for share, n, prefix in ((1 - reads.moving, work.images, cost.prefix), (1.0, work.val_images, cost.exact)):
            passes = share * reads.epochs
            if 4 * n * cost.numbers <= self._memory:  # once in each process
                passes = min(passes, work.concurrent) * workers
            spent += passes * n * prefix
        return spent / at_once

    def passes(self, depths: Iterable[int], views: int) -> float:
        """How often the training images are expected to come to a boundary that these depths, and no others, need."""
        all_reads = [self._work.depths[depth] for depth in depths]
        moving = [reads for reads in all_reads if reads.moving]
        shared = [len([s for s in reads.strengths if s > 0]) for reads in moving if reads.strengths is not None]
        strengths = max(shared, default=0) if len(shared) == len(moving) else None
        still = sum((1 - reads.moving) * reads.trials[0] for reads in all_reads if reads.trials)
        count = distinct(still, 1)
        for view in range(views):
            there = sum(reads.moving * reads.trials[view] for reads in moving if view < len(reads.trials))
            count += distinct(there, strengths)
        return count

    def filling(self, cached: Iterable[int], views: int) -> dict[int, float]:
        """Each cached depth's share of the passes. One pass serves every boundary that it comes by."""
        left = sorted(cached, reverse=True)  # a deeper stage has the shorter prefix
        alone = {depth: self.passes([depth], views) for depth in left}
        spent, done, done_exactly = dict.fromkeys(left, 0.0), 0.0, 0.0
        while left:
            cost = self.costs.depths[left[0]]
            further = max(0.0, cost.prefix - done)
            written = self._stored * cost.numbers / _WRITTEN_BYTES_PER_SECOND
            begun = 0.0 if done else self.costs.augment
            seconds = self.passes(left, views) * self._work.images * (begun + further + written)
            seconds += self._work.val_images * max(0.0, cost.exact - done_exactly)
            for depth in left:
                share = alone[depth] / (sum(alone[each] for each in left) or 1.0)
                spent[depth] += seconds * share / self._work.concurrent
            done, done_exactly = max(done, cost.prefix), max(done_exactly, cost.exact)
            del left[0]
        return spent

    def bytes(self, cached: Iterable[int], views: int) -> dict[int, int]:
        """The most that each cached depth takes."""
        taken = {}
        for depth in cached:
            reads, numbers = self._work.depths[depth], self.costs.depths[depth].numbers
            trials = reads.trials[0] if reads.trials else 0.0
            strengths = trials if reads.strengths is None else sum(s > 0 for s in reads.strengths)
            files = (strengths * min(views, len(reads.trials)) if reads.moving else 0) + (reads.moving < 1)
            taken[depth] = int(numbers * (self._stored * files * self._work.images + 4 * self._work.val_images))
        return taken


def expected_trials(trials: float, rungs: Sequence[int], reduction: float) -> tuple[float, ...]:
    """How many trials train each epoch when successive halving lets one in `reduction` past each rung.

    Args:
        trials: that begin.
        rungs: epochs after which trials are compared; the last is the end.
        reduction: of halving.

    >>> expected_trials(9, (1, 3), 3)
    (9.0, 3.0, 3.0)
    """
    alive: list[float] = []
    for level, (before, rung) in enumerate(zip((0, *rungs), rungs, strict=False)):
        alive += [trials / reduction**level] * (rung - before)
    return tuple(alive)


def distinct(trials: float, strengths: float | None) -> float:
    """How many different strengths are expected among so many trials, each as likely; None: all differ.

    >>> [round(distinct(trials, 4), 2) for trials in (2.0, 4.0, 100.0)], distinct(3.0, None)
    ([1.75, 2.73, 4.0], 3.0)
    """
    if strengths is None:
        return trials
    if not strengths:
        return 0.0
    return min(trials, strengths * (1 - (1 - 1 / strengths) ** trials))
