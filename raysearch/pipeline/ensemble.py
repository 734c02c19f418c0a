"""What an ensemble is worth out of fold. Its weights are chosen on all out-of-fold answers, so these flatter it.

Each fold's images are therefore answered by the ensemble that the other folds would have chosen; what is shipped has
the weights that all of them choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.pipeline.shippable import Floats, greedy
from raysearch.pipeline.shipping import Finish
from raysearch.record.goal import Goal
from raysearch.workers.trainings import Outcome


def judged_elsewhere(finish: Finish, done: Mapping[str, Outcome]) -> Finish:
    """The finish, with answers of its ensemble that its weights were not chosen on; as it is, if it has none.

    Args:
        finish: what can be shipped.
        done: what came of all trainings.
    """
    if not any(point.kind == "ensemble" for point in finish.points):
        return finish
    finals, there = finish.finals, {finish.chosen.trial, *finish.others}
    failed = (finals.members(done) or {}).keys() - there
    candidates = {trial: found for trial, found in (finals.candidates(done) or {}).items() if trial not in failed}
    fold = np.repeat(np.arange(len(finals.held_out)), [len(places) for places in finals.held_out])
    found = by_other_folds(candidates, fold, finals.held_out_labels, finals.classes, finals.goal)
    points = (replace(one, probabilities=found) if one.kind == "ensemble" else one for one in finish.points)
    return replace(finish, points=tuple(points))


def by_other_folds(
    candidates: Mapping[str, Floats],
    fold: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    goal: Goal,
) -> Floats:
    """The answers (n, classes) of `greedy` ensembles, each chosen without the fold that it answers.

    Args:
        candidates: out-of-fold probabilities (n, classes) by name, at least one.
        fold: of each image, shape (n,); at least two differ.
        labels: shape (n,).
        classes: in their order.
        goal: what the ensembles are chosen by.
    """
    found = np.empty_like(next(iter(candidates.values())))
    for one in np.unique(fold):
        here = fold == one
        elsewhere = {name: answers[~here] for name, answers in candidates.items()}
        weights = greedy(elsewhere, labels[~here], classes, goal)
        found[here] = np.sum([weight * candidates[name][here] for name, weight in weights.items()], axis=0)
    return found
