"""Grad-CAM: it points at what speaks for a class, at any size, and leaves the classifier as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from raysearch.models.boundary import build_classifier, prepare
from raysearch.models.registry import BACKBONES
from raysearch.models.spec import Tokens
from raysearch.recipe import Head, Recipe, Stage
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.explain import Explainer, grad_cam, overlay, resized
from raysearch.winner.shipment import Shipment
from tests.networks import TINY
from tests.trained import CLASSES, RECIPE, classifier, picture

MAPS = ("simple_cnn", "densenet121", "vgg16", "resnet18", "mini_convnext", "mini_swin")
TOKENS = ("mini_vit", "mini_vit_mean")


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    """The families' smallest members, and a network of tokens that answers by their mean."""
    mean = replace(TINY["mini_vit"], tokens=Tokens(before=1, class_token=False))
    for name, spec in {**TINY, "mini_vit_mean": mean}.items():
        monkeypatch.setitem(BACKBONES, name, spec)


def planted(backbone: str, size: int, corner: tuple[int, int]) -> tuple[nn.Sequential, np.ndarray]:
    """A classifier whose class 1 is what a textured square adds to the features, and an image of it in that corner."""
    recipe = Recipe(backbone=backbone, image_size=size, weights="random", schedule=(Stage(depth=0, epochs=1),))
    model = build_classifier(recipe, 2).eval()
    plain = np.full((1, size, size, 3), 124, np.uint8)
    image, half = plain.copy(), size // 2
    texture = np.random.default_rng(0).integers(0, 256, (half, half, 3), dtype=np.uint8)
    row, column = corner[0] * half, corner[1] * half
    image[0, row : row + half, column : column + half] = texture
    with torch.no_grad():
        device = torch.device("cpu")
        without, features = (model[:-1](prepare(one, device)) for one in (plain, image))
        model.head.linear.weight[1] = (features - without)[0]
    return model, image


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("backbone", [*MAPS, *TOKENS])
def test_the_map_is_largest_where_the_pattern_is(backbone, corner):
    model, image = planted(backbone, 128, corner)
    [heat] = grad_cam(model, image, np.array([1]))
    quarters = heat.reshape(2, 64, 2, 64).mean(axis=(1, 3))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner
    assert quarters[corner] > 1.2 * np.median(quarters)


@pytest.mark.parametrize("backbone", MAPS)
def test_the_map_is_that_of_the_paper_on_the_last_blocks_output(backbone):
    model, image = planted(backbone, 128, (1, 1))
    maps = model[:-2](prepare(image, torch.device("cpu")))
    maps.retain_grad()
    model.head(model.pool(maps))[0, 1].backward()
    assert maps.grad is not None
    heat = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu()
    heat = nn.functional.interpolate(heat, (128, 128), mode="bilinear")[0, 0]
    assert np.allclose(grad_cam(model, image, np.array([1]))[0], (heat / heat.max()).detach(), atol=1e-4)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("backbone", [*MAPS, *TOKENS])
def test_a_small_image_has_a_map_of_places_too(backbone, size):
    """The last block leaves one pixel of a small image, which would be one colour all over."""
    model, image = planted(backbone, size, (0, 1))
    heat = grad_cam(model, np.repeat(image, 3, axis=0), np.array([1, 1, 1]), batch_size=2)
    assert heat.shape == (3, size, size)
    assert heat.dtype == np.float32
    assert heat.max() == 1
    assert heat.min() < 0.9
    assert np.allclose(heat[2], heat[0], atol=1e-5)


def test_nothing_is_left_in_the_classifier():
    model, image = planted("densenet121", 64, (0, 0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with torch.inference_mode():
        logits = model(prepare(image, torch.device("cpu")))
    grad_cam(model, image, np.array([0]))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(model(prepare(image, torch.device("cpu"))), logits)


def test_a_frozen_classifier_and_every_head_and_pooling_are_explained():
    for pooling in ("avg", "max", "both"):
        head = Head(kind="hidden", hidden_units=8)
        stages = (Stage(depth=0, epochs=1),)
        recipe = Recipe(backbone="simple_cnn", image_size=32, pooling=pooling, head=head, schedule=stages)
        model = build_classifier(recipe, 3).eval().requires_grad_(False)
        images = np.stack([picture(name, 1, (32, 32)) for name in CLASSES])
        heat = np.stack([grad_cam(model, images, np.full(3, label)) for label in range(3)])
        assert np.isfinite(heat).all()
        assert heat.max() == 1


def test_what_cannot_be_asked_is_refused():
    model, image = planted("simple_cnn", 32, (0, 0))
    with pytest.raises(ValueError, match="got 1 images and 2 classes"):
        grad_cam(model, image, np.array([0, 1]))
    with pytest.raises(ValueError, match="eval mode"):
        grad_cam(model.train(), image, np.array([0]))


def test_an_overlay_changes_the_image_only_where_the_map_is():
    image = picture("blue", 0, (16, 16))
    heat = np.zeros((16, 16), np.float32)
    assert np.array_equal(overlay(image, heat, 64), resized(image, 64))
    heat[:8] = 1
    seen = overlay(image, heat, 64).astype(int)
    assert np.array_equal(seen[40:], resized(image, 64)[40:])
    assert np.abs(seen[:24] - resized(image, 64)[:24]).mean() > 50


def test_an_explanation_is_a_picture_a_name(tmp_path):
    write_best(tmp_path / "best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    explain = Explainer(load_best(tmp_path / "best"), tmp_path / "why")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture("red", 1)).save(tmp_path / folder / "one.jpg")
    paths = [explain(str(tmp_path / folder / "one.jpg"), "red") for folder in ("a", "b")]
    paths.append(explain(picture("blue", 2), "blue"))
    assert [path.name for path in paths] == ["one.png", "one-2.png", "image.png"]
    for path in paths:
        with Image.open(path) as shown:
            assert shown.size == (448, 224)
