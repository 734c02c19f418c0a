"""What is made of the trainings after a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from raysearch.data.dataset import Split
from raysearch.pipeline.effort import Effort
from raysearch.pipeline.finals import Finalist, Finals
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.frontier import frontier
from raysearch.pipeline.shippable import Shippable
from raysearch.recipe import Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.workers.order import Training
from raysearch.workers.trainings import Outcome
from tests.pipeline.test_finals import Known

LABELS = np.arange(400) % 2
RECIPE = Recipe(backbone="simple_cnn", weights="random", image_size=32, schedule=(Stage(depth=1, epochs=2),))


def finish(sure: float, right: float = 0.8) -> Finish:
    """One whose answers out of fold give the likelier class this probability, and are right so often."""
    one = Finalist("t0000", RECIPE, RECIPE)
    effort = Effort(folds=2, challengers=0, seeds=1, refits=1, on="train+val")
    finals = Finals((one,), effort, LABELS, ("cat", "dog"), Goal("accuracy"), seed=0)
    labels = finals.held_out_labels
    answers = np.where(np.arange(len(labels)) % 10 < 10 * right, labels, 1 - labels)
    probabilities = np.where(np.eye(2)[answers] > 0, sure, 1 - sure)
    return Finish(finals, one, (), (probabilities,), (Shippable("single", 1, probabilities),), "single", {})


def unsure(second: int, first: int) -> Finish:
    """One that holds the second class for as likely as 0.4 where it is right in one fold, or in the other.

    Args:
        second: images of the second class in the first fold, of 100, that it holds so.
        first: of the first class in the second fold; below 0, of the second class there.
    """
    one = finish(0.8)
    labels = one.finals.held_out_labels
    positive = np.where(labels == 1, 0.9, 0.1)
    positive[np.flatnonzero(labels[:200] == 1)[:second]] = 0.4
    positive[200 + np.flatnonzero(labels[200:] == (first < 0))[: abs(first)]] = 0.4
    return replace(one, points=(Shippable("single", 1, np.stack([1 - positive, positive], axis=1)),))


def test_a_threshold_is_stored_where_the_other_folds_would_have_chosen_it():
    """By hand: at 0.25 the first gains 100 of 400 images; the second 60, and loses 40 in the fold that did not ask."""
    assert 0.1 < unsure(60, -40).threshold < 0.4
    assert unsure(60, 40).threshold is None, "what is chosen and tested on the same images is surely better by 20"


def test_what_is_shipped_has_the_accuracy_of_its_threshold_and_what_is_not_that_of_the_likelier_class():
    one = unsure(60, -40)
    shares, labels = one.points[0].probabilities, one.finals.held_out_labels
    one = replace(one, points=(*one.points, Shippable("mirror", 2, shares)))
    test = Split(np.zeros((len(labels), 1, 1, 3), np.uint8), labels, ("",) * len(labels))
    shipped, other = frontier(one, {"single": shares, "mirror": shares}, test)
    assert [(point["out_of_fold"]["accuracy"], point["test"]["accuracy"]) for point in (shipped, other)] == [
        (1.0, 1.0),
        (0.75, 0.75),
    ]


def answers(one: Finish, sure: float, right: float = 0.8) -> Outcome:
    """A training whose answers to the first fold give the likelier class this probability."""
    labels = one.finals.labels[one.finals.held_out[0]]
    given = np.where(np.arange(len(labels)) % 10 < 10 * right, labels, 1 - labels)
    probabilities = torch.from_numpy(np.where(np.eye(2)[given] > 0, sure, 1 - sure))
    return Known(Training("fold", "t0000", RECIPE, 0, "train+val", (0, 2)), logits=probabilities.log())


def longer(one: Finish, shorter: float, sure: float | None) -> Finish:
    """The same with refits that take longer than on folds, and two trainings on a fold that are as sure as this."""
    effort = replace(one.finals.effort, final_length=3.0)
    measured = None if sure is None else answers(one, sure)
    in_folds = {"t0000": ((answers(one, shorter),),)}
    return replace(one, finals=replace(one.finals, effort=effort), in_folds=in_folds, longer=measured)


@pytest.mark.parametrize(("sure", "temperature"), [(0.95, 2.12), (0.8, 1.0), (0.65, 0.45)])
def test_the_temperature_makes_answers_as_sure_as_they_are_right(sure, temperature):
    """By hand: the logit of 0.8 is 1.386, those of 0.95 and 0.65 are 2.944 and 0.619."""
    assert finish(sure).temperature == pytest.approx(temperature, rel=0.01)


@pytest.mark.parametrize(("shorter", "sure", "temperature"), [(0.8, 0.8, 1.0), (0.8, 0.95, 2.12), (0.65, 0.95, 4.76)])
def test_what_is_trained_for_longer_is_made_less_sure_by_as_much_as_it_is_surer(shorter, sure, temperature):
    """By hand: 2.944 / 1.386, and 2.944 / 0.619; what is known out of fold stays as it was measured."""
    found = longer(finish(0.8), shorter, sure)
    assert found.temperature == pytest.approx(temperature, rel=0.01)
    assert found.fold_temperature == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("sure", "temperature"), [(0.95, 2.12), (0.65, 1.0)])
def test_where_that_is_not_known_answers_are_only_made_less_sure(sure, temperature):
    assert longer(finish(sure), 0.8, None).temperature == pytest.approx(temperature, rel=0.01)


@pytest.mark.parametrize(
    ("fold_length", "final_length", "trainings"), [(1.0, 1.0, 7.0), (1.0, 3.0, 16.5), (2.0, 1.0, 10.0)]
)
def test_what_an_effort_comes_to_counts_lengths(fold_length, final_length, trainings):
    """Two folds of half the images, for the default twice and a challenger, are three trainings; and four refits.

    Where these are longer, one on a fold is as long: half the images, three times.
    """
    effort = Effort(2, 1, 2, 4, "train+val", fold_length, final_length)
    assert effort.trainings() == trainings
