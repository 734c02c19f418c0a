"""What a continued search has forgotten: both runs' winners on the test images of the earlier one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.continued import EarlierImages
from raysearch.intervals import mean_interval
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
        "accuracy": _change(before, after),
        "per_class": {
            classes[label]: _change(before[labels == label], after[labels == label]) for label in np.unique(labels)
        },
        "called_new": float(np.isin(said, new).mean()),
    }


def answers_to_test(
    dataset: str, storage: str | None, device: str, model: nn.Module, places: NDArray[np.int64]
) -> Floats:
    """A model's probabilities of some test images, (m, its classes); other arguments as of `looking.Where`."""
    split = images_at(dataset, storage).test.take(places)
    return torch.softmax(torch.cat(list(logits_of(model, split, device))).double(), dim=1).numpy()


def _change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Change:
    """Shares of right answers, and the interval of their difference, image by image (Student's)."""
    gains = after.astype(float) - before
    low, high = mean_interval(gains, CONFIDENCE)[1:] if len(gains) > 1 else (None, None)
    return {
        "images": len(gains),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "change": float(gains.mean()),
        "low": low,
        "high": high,
    }
