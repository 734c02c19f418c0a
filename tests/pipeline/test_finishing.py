"""What is made of the trainings after a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raysearch.pipeline.effort import Effort
from raysearch.pipeline.finals import Finalist, Finals
from raysearch.pipeline.finishing import Finish
from raysearch.pipeline.frontier import Point
from raysearch.recipe import Recipe, Stage
from raysearch.record.goal import Goal

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
    return Finish(finals, one, (), (probabilities,), (Point("single", 1, probabilities),), "single", {})


def longer(one: Finish) -> Finish:
    """The same with refits that take longer than the trainings on folds."""
    effort = replace(one.finals.effort, final_length=3.0)
    return replace(one, finals=replace(one.finals, effort=effort))


@pytest.mark.parametrize(("sure", "temperature"), [(0.95, 2.12), (0.8, 1.0), (0.65, 0.45)])
def test_the_temperature_makes_answers_as_sure_as_they_are_right(sure, temperature):
    """By hand: the logit of 0.8 is 1.386, those of 0.95 and 0.65 are 2.944 and 0.619."""
    assert finish(sure).temperature == pytest.approx(temperature, rel=0.01)


@pytest.mark.parametrize(("sure", "temperature"), [(0.95, 2.12), (0.8, 1.0), (0.65, 1.0)])
def test_shorter_trainings_make_longer_ones_only_less_sure(sure, temperature):
    assert longer(finish(sure)).temperature == pytest.approx(temperature, rel=0.01)


@pytest.mark.parametrize(
    ("fold_length", "final_length", "trainings"), [(1.0, 1.0, 7.0), (1.0, 3.0, 15.0), (2.0, 1.0, 10.0)]
)
def test_what_an_effort_comes_to_counts_lengths(fold_length, final_length, trainings):
    """Two folds of half the images, for the default twice and a challenger, are three trainings; and four refits."""
    effort = Effort(2, 1, 2, 4, "train+val", fold_length, final_length)
    assert effort.trainings() == trainings
