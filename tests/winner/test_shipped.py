"""Ensembles, mirrored views and temperatures as plain modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysearch.winner.shipped import Calibrated, MeanOfProbabilities


def classifier(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))


IMAGES = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_an_ensembles_answer_is_the_weighted_mean_of_its_members_probabilities():
    members = [classifier(0), classifier(1)]
    answer = torch.softmax(MeanOfProbabilities(members, [3, 1])(IMAGES), dim=1)
    one, other = (torch.softmax(member(IMAGES), dim=1) for member in members)
    torch.testing.assert_close(answer, 0.75 * one + 0.25 * other)


def test_a_mirrored_answer_does_not_know_left_from_right():
    both = MeanOfProbabilities([classifier(0)], mirrored=True)
    torch.testing.assert_close(both(IMAGES), both(IMAGES.flip(3)))
    alone = classifier(0)
    expected = (torch.softmax(alone(IMAGES), dim=1) + torch.softmax(alone(IMAGES.flip(3)), dim=1)) / 2
    torch.testing.assert_close(torch.softmax(both(IMAGES), dim=1), expected)


def test_a_temperature_changes_how_sure_an_answer_is_and_never_the_answer():
    hot = Calibrated(classifier(0), 4.0)
    plain, calm = (torch.softmax(one(IMAGES), dim=1) for one in (classifier(0), hot))
    assert torch.equal(plain.argsort(dim=1), calm.argsort(dim=1))
    assert (calm.max(dim=1).values < plain.max(dim=1).values).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        MeanOfProbabilities([classifier(0), classifier(1)], weights)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        Calibrated(classifier(0), temperature)
