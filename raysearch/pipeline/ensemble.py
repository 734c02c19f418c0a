"""The ensemble: its members, and what it is worth out of fold, where answers that chose its weights flatter it.

Each fold's images are therefore answered by the ensemble that the other folds would have chosen; what is shipped has
the weights that all of them choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.pipeline.finish import Finish
from raysearch.pipeline.shippable import MOST_MEMBERS, Floats, Shippable, greedy
from raysearch.record.goal import Goal
from raysearch.workers.trainings import Outcome


def members_of(
    finish: Finish, seeds: Sequence[Floats], done: Mapping[str, Outcome]
) -> dict[str, tuple[float, int, Floats]]:
    """The ensemble of the finals, as far as its networks were trained, as `shippable` takes it.

    Args:
        finish: of which the chosen recipe and the others' trainings for good are known.
        seeds: out-of-fold probabilities of single trainings of the chosen recipe, (n, classes) each.
        done: what came of all trainings.

    Returns: for each trial its weight, of weights that add up to one, its networks and its out-of-fold answers.
    """
    finals, chosen = finish.finals, finish.chosen
    weights = finals.members(done) or {}
    here = {trial: weight for trial, weight in weights.items() if trial == chosen.trial or trial in finish.others}
    networks = {chosen.trial: min(len(finish.refits), MOST_MEMBERS - len(here) + 1)}
    members = {}
    for trial, weight in here.items():
        one = next(finalist for finalist in finals.finalists if finalist.trial == trial)
        found = np.mean(seeds, axis=0) if one is chosen else finals.out_of_fold(one, 0, done)
        assert found is not None
        members[trial] = weight / sum(here.values()), networks.get(trial, 1), found
    return members


def judged_elsewhere(points: Sequence[Shippable], finish: Finish, done: Mapping[str, Outcome]) -> list[Shippable]:
    """What can be shipped, where the ensemble's answers are of weights that were not chosen on the image.

    Args:
        points: of which one may be an ensemble.
        finish: of which the chosen recipe and the others' trainings for good are known.
        done: what came of all trainings.
    """
    if not any(point.kind == "ensemble" for point in points):
        return list(points)
    finals, there = finish.finals, {finish.chosen.trial, *finish.others}
    failed = (finals.members(done) or {}).keys() - there
    candidates = {trial: found for trial, found in (finals.candidates(done) or {}).items() if trial not in failed}
    fold = np.repeat(np.arange(len(finals.held_out)), [len(places) for places in finals.held_out])
    found = by_other_folds(candidates, fold, finals.held_out_labels, finals.classes, finals.goal)
    return [replace(one, probabilities=found) if one.kind == "ensemble" else one for one in points]


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
