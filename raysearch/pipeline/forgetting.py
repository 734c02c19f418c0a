"""What a continued search has forgotten: both runs' winners on the test images of the earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.continued import EarlierImages
from raysearch.intervals import holm, mean_interval, p_of_change
from raysearch.job.job import Job
from raysearch.pipeline.looking import images_at
from raysearch.pipeline.shippable import Floats
from raysearch.record.decision import decided
from raysearch.record.evaluation import Change, ContinuedFigures
from raysearch.winner.best import load_best
from raysearch.winner.evaluate import logits_of
from raysearch.workers.cluster import Call

CONFIDENCE = 0.95
"""Of the two-sided intervals of paired differences."""


def forgotten(job: Job, now: Floats, threshold: float | None, call: Call) -> ContinuedFigures | None:
    """How the old classes are told on the earlier run's test images, by its winner and by this one's.

    Args:
        job: the settings and what they name.
        now: calibrated probabilities of all test images by what is shipped, (n, classes).
        threshold: from which probability on the second of two classes is its answer; None: the likelier class is.
        call: calls a function where trials run.

    Returns: None where no run is continued, or none of its test images has a class that it knew.

    Raises:
        InputError: its best/ is gone.
    """
    earlier, classes = EarlierImages.of(job.dataset.folder), job.dataset.classes
    if earlier is None or job.settings.continues is None:
        return None
    labels = job.dataset.test.labels[earlier.places]
    of_both = np.isin(labels, [classes.index(name) for name in earlier.same])
    places, labels = earlier.places[of_both], labels[of_both]
    groups = None if job.dataset.test.groups is None else job.dataset.test.groups[places]
    if not len(places):
        return None
    settings, run = job.settings, Path(job.settings.continues)
    best = load_best(run)
    answers = call(answers_to_test, str(job.dataset.folder), settings.storage, settings.device, best.model(), places)
    names = {then: classes.index(name) for name, then in earlier.same.items()}
    known = np.array([names.get(name, -1) for name in best.labels])
    before = known[decided(answers, best.confidence.threshold)] == labels
    said = decided(now[places], threshold)
    after = said == labels
    new = [classes.index(name) for name in earlier.new]
    return {
        "run": run.name,
        "images": len(places),
        "found_again": earlier.found_again,
        "same": earlier.same,
        "new": list(earlier.new),
        "gone": list(earlier.gone),
        "accuracy": change(before, after, groups),
        "per_class": changes(before, after, labels, classes, groups),
        "called_new": float(np.isin(said, new).mean()),
    }


def answers_to_test(
    dataset: str, storage: str | None, device: str, model: nn.Module, places: NDArray[np.int64]
) -> Floats:
    """A model's probabilities of some test images, (m, its classes); other arguments as of `looking.Where`."""
    split = images_at(dataset, storage).test.take(places)
    return torch.softmax(torch.cat(list(logits_of(model, split, device))).double(), dim=1).numpy()


def changes(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Change]:
    """The change of each class that has images. Of many classes one would seem changed by chance, so p is Holm's.

    Args:
        before, after: whether each image was told right, shape (n,).
        labels: shape (n,).
        classes: their names.
        groups: as of `mean_interval`.
    """
    found = {}
    for label in np.unique(labels):
        of = labels == label
        found[classes[label]] = change(before[of], after[of], None if groups is None else groups[of])
    for one, p in zip(found.values(), holm([one["p"] for one in found.values()]), strict=True):
        one["p"] = p
    return found


def change(before: NDArray[np.bool_], after: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> Change:
    """Shares of right answers, the interval of their difference, image by image (Student's), and `p_of_change`.

    Where every image has changed alike nothing says how far others would differ, so there is no interval.
    """
    gains = after.astype(float) - before
    one_for_all = len(gains) < 2 or (gains[0] != 0 and (gains == gains[0]).all())
    low, high = (None, None) if one_for_all else mean_interval(gains, CONFIDENCE, groups)[1:]
    return {
        "images": len(gains),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "change": float(gains.mean()),
        "low": low,
        "high": high,
        "p": p_of_change(before, after, groups),
    }
