"""Two classifiers on the same images: how much better one is by the goal of a search, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from raysearch.intervals import mean_interval, numbered_groups, share_interval
from raysearch.record.goal import Goal
from raysearch.record.metric import RANKED, class_metric, is_share, measured, parts, score
from raysearch.training.decisions import Decisions
from raysearch.training.metrics import lacked

_RESAMPLES = 400


@dataclass(frozen=True)
class Difference:
    """How much better one is than the other, in the metric's own unit; above 0 is better, whatever its direction."""

    mean: float
    low: float
    high: float
    """Ends of its confidence interval."""
    images: int
    nearer: float = 0.0
    """By how much less it misses what is required; 0 where both keep it."""

    @property
    def better(self) -> bool:
        """Whether it is better: what is required comes first."""
        return self.nearer > 0 or (self.nearer == 0 and self.mean > 0)

    @property
    def surely(self) -> bool:
        """Whether it is better, and by the metric by more than chance explains."""
        return self.nearer > 0 or (self.nearer == 0 and self.low > 0)


def compare(
    goal: Goal,
    ours: Decisions,
    theirs: Decisions,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    confidence: float,
    groups: NDArray[np.int64] | None = None,
) -> Difference:
    """Compare what two classifiers make of the same images.

    Accuracy and loss are means over images: their interval is Student's of the paired differences. Other metrics are
    of all images together: theirs is the percentile bootstrap's (Efron 1979), over images, the same for both.
    Images among which a class is missing that the goal needs show no difference.

    Args:
        goal: of the search.
        ours, theirs: of the one that may be better, and of the other.
        labels: shape (n,).
        classes: in the order of the logits.
        confidence: of the two-sided interval.
        groups: a number that images have in common which are no independent draws, shape (n,): the interval counts
            groups then. None: it counts images.
    """
    target, metric, also = torch.as_tensor(labels), goal.metric, _also(goal.metric)
    if any(lacked(one, target, classes) for one in goal.measured):
        return Difference(0.0, 0.0, 0.0, len(labels))
    nearer = 0.0
    if goal.require:
        everything = torch.arange(len(target))
        missed = [goal.shortfall(one.figures(everything, target, classes, goal.metrics)) for one in (ours, theirs)]
        nearer = missed[1] - missed[0]
    if metric == "accuracy":
        gains = (ours.said == target).double() - (theirs.said == target).double()
    elif metric == "loss":
        gains = functional.cross_entropy(theirs.logits.double(), target, reduction="none")
        gains -= functional.cross_entropy(ours.logits.double(), target, reduction="none")
    else:

        def gain(images: torch.Tensor) -> float:
            one, other = (score(who.figures(images, target, classes, also), metric) for who in (ours, theirs))
            return one - other

        return Difference(*_bootstrapped(metric, gain, target, classes, confidence, groups), len(labels), nearer)
    return Difference(*mean_interval(gains.numpy(), confidence, groups), len(labels), nearer)


def figure_interval(
    metric: str,
    decisions: Decisions,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    confidence: float,
    groups: NDArray[np.int64] | None = None,
) -> tuple[float, float, float]:
    """A classifier's figure, and the ends of its two-sided interval.

    What is a share of images has Wilson's interval, everything else the percentile bootstrap's over images. None of
    the classes may be missing that the metric needs (`raysearch.training.metrics.lacked`).

    Args:
        metric: as a search is led by.
        decisions: of the classifier.
        labels: shape (n,).
        classes: in the order of the logits.
        confidence: of the interval.
        groups: as of `compare`.
    """
    target, of_class, also = torch.as_tensor(labels), class_metric(metric), _also(metric)

    def figure(images: torch.Tensor) -> float:
        return measured(decisions.figures(images, target, classes, also), metric)

    if is_share(metric) and metric != "balanced_accuracy":
        counted = target if of_class is None or of_class[0] == "recall" else decisions.said
        of = np.ones(len(target), bool) if of_class is None else (counted == list(classes).index(of_class[1])).numpy()
        found, right = figure(torch.arange(len(target))), (decisions.said == target).numpy()[of]
        if not len(right):
            return found, 0.0, 1.0
        return found, *share_interval(right, None if groups is None else groups[of], confidence)
    return _bootstrapped(metric, figure, target, classes, confidence, groups)


def _also(metric: str) -> tuple[str, ...] | None:
    """What is measured beside what every classifier is measured by: nothing is ranked for a metric that is no rank."""
    return tuple(one for one in parts(metric) if one in RANKED) or None


def _bootstrapped(
    metric: str,
    figure: Callable[[torch.Tensor], float],
    labels: torch.Tensor,
    classes: Sequence[str],
    confidence: float,
    groups: NDArray[np.int64] | None,
) -> tuple[float, float, float]:
    """The figure of all images, and the quantiles of what it is of images, or whole groups, drawn with replacement.

    Draws that lack the images which the metric needs say nothing, and are passed over; so does one group alone.
    """
    drawn = []
    for images in _draws(len(labels), groups):
        if not lacked(metric, labels[images], classes):
            drawn.append(figure(images))
    everything = figure(torch.arange(len(labels)))
    if not drawn:
        return everything, -np.inf, np.inf
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return everything, float(low), float(high)


def _draws(n: int, groups: NDArray[np.int64] | None) -> Iterator[torch.Tensor]:
    """Places of images that are drawn with replacement, always the same ones; of groups, all images of each."""
    random, numbers = np.random.default_rng(0), numbered_groups(groups)
    if numbers is None:
        yield from (torch.from_numpy(random.integers(n, size=n)) for _ in range(_RESAMPLES))
        return
    by_group, sizes = np.argsort(numbers, kind="stable"), np.bincount(numbers)
    if len(sizes) < 2:
        return
    begins = np.cumsum(sizes) - sizes
    for _ in range(_RESAMPLES):
        taken = random.integers(len(sizes), size=len(sizes))
        many = sizes[taken]
        ahead = np.repeat(begins[taken] - (np.cumsum(many) - many), many)
        yield torch.from_numpy(by_group[ahead + np.arange(many.sum())])
