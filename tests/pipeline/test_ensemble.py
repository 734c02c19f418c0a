"""An ensemble is judged by images that its weights were not chosen on."""

from __future__ import annotations

import numpy as np
import torch

from raysearch.pipeline.ensemble import by_other_folds, judged_elsewhere
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.shippable import greedy, shippable
from raysearch.record.goal import Goal
from raysearch.workers.trainings import Outcome
from tests.pipeline.test_finals import Known, finals

CLASSES, GOAL = ("cat", "dog"), Goal("accuracy")


def guesses(n: int, candidates: int) -> dict[str, np.ndarray]:
    """Probabilities, (n, 2), of candidates that know nothing."""
    random = np.random.default_rng(0)
    return {f"t{number:04d}": random.dirichlet((1, 1), n) for number in range(candidates)}


def right(answers: np.ndarray, labels: np.ndarray) -> float:
    return float((answers.argmax(axis=1) == labels).mean())


def test_an_ensemble_of_guesses_is_worth_a_guess():
    labels, candidates = np.arange(200) % 2, guesses(200, 20)
    weights = greedy(candidates, labels, CLASSES, GOAL)
    flattered = right(sum(weight * candidates[name] for name, weight in weights.items()), labels)
    assert flattered > 0.6
    found = by_other_folds(candidates, np.repeat(np.arange(4), 50), labels, CLASSES, GOAL)
    assert abs(right(found, labels) - 0.5) < 0.08


def test_what_is_said_of_a_fold_follows_from_the_others():
    labels, candidates, fold = np.arange(200) % 2, guesses(200, 6), np.repeat(np.arange(4), 50)
    found = by_other_folds(candidates, fold, labels, CLASSES, GOAL)
    other = by_other_folds(candidates, fold, np.where(fold == 1, 1 - labels, labels), CLASSES, GOAL)
    assert (found[fold == 1] == other[fold == 1]).all()
    assert (found[fold != 1] != other[fold != 1]).any()


def test_what_is_shipped_has_the_weights_that_all_images_choose_and_is_judged_by_others():
    which = finals(("t0000", "t0001", "t0002"), seeds=1)
    random, done = torch.Generator().manual_seed(0), dict[str, Outcome]()
    while missing := [one for one in which.wanted(done) if one.name not in done]:
        for one in missing:
            n = 0 if one.fold is None else len(which.held_out[one.fold[0]])
            labels = torch.as_tensor(which.labels[which.held_out[one.fold[0]]]) if n else torch.zeros(0, dtype=int)
            logits = torch.randn(n, 2, generator=random) + torch.nn.functional.one_hot(labels, 2)
            done[one.name] = Known(one, logits=logits)
    chosen, candidates, weights = which.chosen(done), which.candidates(done), which.members(done)
    seeds, others = which.chosen_seeds(chosen, done), {trial: done[f"refit-{trial}-1000"] for trial in weights}
    points = shippable(seeds, None, None, {trial: (one, 2, candidates[trial]) for trial, one in weights.items()})
    finish = Finish(which, chosen, (), tuple(seeds), (), "ensemble", others)
    (single, before), (same, after) = points, judged_elsewhere(points, finish, done)
    assert single is same
    assert (after.members, after.cost) == (before.members, before.cost)
    fold = np.repeat(np.arange(3), 20)
    assert (after.probabilities == by_other_folds(candidates, fold, which.held_out_labels, CLASSES, GOAL)).all()
    assert judged_elsewhere(points[:1], finish, done) == points[:1]
