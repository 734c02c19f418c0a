"""What a network has learned is drawn of every kind of network, within its bounds, and leaves the network as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.models.boundary import NOT_BLOCKS, build_classifier, prepare
from raysearch.models.registry import BACKBONES
from raysearch.models.spec import Tokens
from raysearch.recipe import Recipe, Stage
from raysearch.winner.learned import CHANNELS, GRID, activation_maxima, first_filters, occlusion
from tests.networks import SMALL, TINY
from tests.on_mps import ToMps
from tests.winner.test_explain import planted

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    mean = replace(TINY["mini_vit"], tokens=Tokens(before=1, class_token=False))
    for name, spec in {**TINY, "mini_vit_mean": mean}.items():
        monkeypatch.setitem(BACKBONES, name, spec)


def network(backbone: str, size: int = 32) -> nn.Sequential:
    recipe = Recipe(backbone=backbone, image_size=size, weights="random", schedule=(Stage(depth=0, epochs=1),))
    return build_classifier(recipe, 3).eval()


def noise(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("backbone", SMALL)
def test_every_kind_of_network_has_maxima_in_its_blocks_and_stays_as_it_was(backbone):
    model = network(backbone)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    filters = first_filters(model)
    assert filters is not None
    assert filters.shape[1] == filters.shape[2]
    found = activation_maxima(model, noise(8), side=32, seconds=0.0)
    names = [name for name, _ in model.named_children() if name not in NOT_BLOCKS]
    assert 0 < len(found) <= 5
    assert list(found) == [name for name in names if name in found]
    assert all(images.shape == (CHANNELS, 32, 32, 3) for images in found.values())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(one.requires_grad and one.grad is None for one in model.parameters())
    assert not any(module.training for module in model.modules())


def test_a_maximum_excites_its_channel_more_than_faint_noise_as_it_began_with():
    model, images = network("simple_cnn"), (124 + 0.25 * (noise(40) - 124.0)).astype(np.uint8)
    found = activation_maxima(model, images, side=32)
    for name, made in found.items():
        to_here = model[: 1 + [child for child, _ in model.named_children()].index(name)]
        with torch.no_grad():
            natural, excited = (to_here(prepare(some, CPU)).mean(dim=(2, 3)) for some in (images, made))
        channels = natural.std(dim=0).argsort(descending=True, stable=True)[:CHANNELS]
        for place, channel in enumerate(channels.tolist()):
            assert excited[place, channel] > natural[:, channel].max(), (name, channel)


def test_filters_are_shown_grey_where_they_weigh_nothing():
    model = network("simple_cnn")
    with torch.no_grad():
        weight = next(one for one in model.modules() if isinstance(one, nn.Conv2d)).weight
        weight.zero_()
        weight[7, 0, 1, 1], weight[7, 2, 1, 1] = 2.0, -2.0
    filters = first_filters(model)
    assert filters[0, 1, 1].tolist() == [255, 128, 0]
    assert (filters[1:] == 128).all()
    assert (np.delete(filters[0].reshape(9, 3), 4, axis=0) == 128).all()


def test_where_nothing_convolves_the_pixels_there_are_no_filters():
    assert first_filters(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))) is None


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("backbone", ["simple_cnn", "resnet18", "mini_swin"])
def test_what_hides_the_pattern_costs_the_class_most(backbone, corner):
    model, image = planted(backbone, 64, corner)
    [heat] = occlusion(model, image, np.array([1]))
    quarters = heat.reshape(2, 32, 2, 32).mean(axis=(1, 3))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner
    assert heat.max() == pytest.approx(1)


def test_no_float64_is_needed_where_the_network_runs():
    model, image = planted("simple_cnn", 64, (0, 0))
    there = occlusion(nn.Sequential(model, ToMps()), image, np.array([1]))
    assert np.array_equal(there, occlusion(model, image, np.array([1])))


def test_an_image_that_says_nothing_has_an_empty_map():
    model = network("simple_cnn")
    with torch.no_grad():
        model.head.linear.weight.zero_()
    assert not occlusion(model, noise(2), np.array([0, 2])).any()
    assert GRID * GRID < 64, "images that each one costs"
