"""Boundary activations are the prefix's, whoever asks and however they come, and asking changes nothing."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.activations import live as live_module
from raysearch.activations.base import ChosenActivations, size_bytes
from raysearch.activations.kept import KeptActivations
from raysearch.activations.live import LiveActivations
from raysearch.data.augment import Augmenter
from raysearch.models.boundary import build_classifier, cut, prepare
from raysearch.recipe import Augmentation, Recipe, Stage
from raysearch.training.heads.reading import read_view
from tests.networks import FEW, register_tiny, spec_of

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
EVERY_DEPTH = [(name, depth) for name in FEW for depth in range(len(spec_of(name).block_names) + 1)]


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch):
    register_tiny(monkeypatch)


def classifier_of(backbone="simple_cnn"):
    return build_classifier(Recipe(backbone=backbone, image_size=32, schedule=(Stage(depth=0, epochs=1),)), 3)


def live_of(depth=2, *, strength=None, pixels=PIXELS, precision="fp32", classifier=None):
    prefix, _ = cut(classifier or classifier_of(), depth)
    augmenter = None if strength is None else Augmenter(Augmentation(), strength, seed=1)
    return LiveActivations(pixels, prefix, augmenter=augmenter, device=CPU, precision=precision)


@pytest.mark.parametrize(("backbone", "depth"), EVERY_DEPTH)
def test_live_and_kept_are_what_the_prefix_makes_of_the_images(backbone, depth, monkeypatch):
    monkeypatch.setattr(live_module, "MOST_AT_ONCE", 2)
    classifier = classifier_of(backbone)
    source = live_of(depth, pixels=PIXELS[:3], classifier=classifier)
    kept = KeptActivations(source)
    indices = np.array([2, 0])
    classifier.eval()
    with torch.no_grad():
        want = cut(classifier, depth)[0](prepare(PIXELS[indices], CPU))
    got = source.batch(indices, 0)
    assert torch.equal(got, want)
    assert source.shape == kept.shape == tuple(want.shape[1:])
    assert len(source) == len(kept) == 3
    stored = kept.batch(indices, 0)
    torch.testing.assert_close(stored, want, rtol=1e-4, atol=1e-4)  # another batch size: the last bits may differ
    assert stored.shape == want.shape
    if want.ndim == 4:
        assert stored.is_contiguous(memory_format=torch.channels_last)
    assert not got.requires_grad
    assert not stored.requires_grad


def test_views_are_the_augmenters_and_only_they_differ():
    source = live_of(strength=1.0)
    assert source.varies
    indices = np.array([4, 9])
    augmented = Augmenter(Augmentation(), 1.0, seed=1)(PIXELS[indices], indices, 6)
    plain = live_of()
    want = LiveActivations(augmented, cut(classifier_of(), 2)[0], augmenter=None, device=CPU, precision="fp32")
    assert torch.equal(source.batch(indices, 6), want.batch(np.arange(2), 0))
    assert not torch.equal(source.batch(indices, 6), source.batch(indices, 7))
    assert not torch.equal(source.batch(indices, 6), plain.batch(indices, 6))
    assert torch.equal(plain.batch(indices, 6), plain.batch(indices, 7))


def test_no_strength_is_no_augmentation():
    still = live_of(strength=0.0)
    assert not still.varies
    assert torch.equal(still.batch(np.arange(3), 5), live_of().batch(np.arange(3), 0))


def test_passing_data_moves_nothing_even_if_the_classifier_was_set_to_train():
    classifier = classifier_of("densenet121")
    source = live_of(1, classifier=classifier)
    first = source.batch(np.arange(4), 0)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    classifier.train()
    assert torch.equal(source.batch(np.arange(4), 0), first)
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())


def test_depth_of_all_blocks_gives_the_prepared_images_themselves():
    source = live_of(4)
    assert source.shape == (3, 32, 32)
    assert torch.equal(source.batch(np.arange(2), 0), prepare(PIXELS[:2], CPU))


def test_a_memory_map_is_read_where_it_lies(tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    assert torch.equal(live_of(pixels=mapped).batch(np.array([3, 1]), 0), live_of().batch(np.array([3, 1]), 0))
    assert live_of(pixels=mapped).shape == live_of().shape


def test_lower_precision_runs_in_it_and_hands_over_fp32():
    exact, rough = live_of().batch(np.arange(4), 0), live_of(precision="bf16").batch(np.arange(4), 0)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be fp32, bf16 or fp16, got 'fp8'"):
        live_of(precision="fp8")


class Counting(nn.Identity):
    passes = 0

    def forward(self, input):
        Counting.passes += len(input)
        return input


def test_kept_are_computed_once_and_do_not_depend_on_who_asks_first():
    prefix = nn.Sequential(Counting(), *cut(classifier_of(), 1)[0])
    source = LiveActivations(PIXELS, prefix, augmenter=None, device=CPU, precision="fp32")
    one, two = KeptActivations(source), KeptActivations(source)
    _ = source.shape
    Counting.passes = 0
    asked = [np.array([7]), np.array([1, 2, 10]), np.arange(11)]
    first = [one.batch(indices, 0) for indices in asked]
    assert Counting.passes == len(PIXELS)
    second = [two.batch(indices, 3) for indices in reversed(asked)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(second), strict=True))
    assert Counting.passes == 2 * len(PIXELS)


def test_what_is_kept_holds_on_to_no_network():
    """It goes from trial to trial, and would fill the device with the prefixes of those that are over."""
    source = live_of()
    kept, prefix, shape = KeptActivations(source), weakref.ref(source._prefix), source.shape
    del source
    kept.batch(np.arange(2), 0)
    assert prefix() is None
    assert (kept.shape, len(kept), kept.varies) == (shape, len(PIXELS), False)


class Largest(nn.Module):
    """Nothing but the mean colour, and how many images came together at most."""

    images = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        Largest.images = max(Largest.images, len(inputs))
        return inputs.mean(dim=(2, 3))


@pytest.mark.parametrize("size", [32, 224])
def test_all_images_are_read_in_chunks_of_bounded_pixels(size, monkeypatch):
    """On a CPU 1 Mpx at a time: 20 images of 224 px, not 256."""
    monkeypatch.setattr(Largest, "images", 0)
    pixels = np.zeros((60, size, size, 3), np.uint8)
    source = LiveActivations(pixels, nn.Sequential(Largest()), augmenter=None, device=CPU, precision="fp32")
    read_view(source, np.arange(60), 0, CPU)
    KeptActivations(source).batch(np.arange(2), 0)
    assert Largest.images == {32: 60, 224: 20}[size]


def test_what_is_read_may_be_written_to_without_spoiling_what_is_kept():
    kept = KeptActivations(live_of())
    before = kept.batch(np.arange(5), 0).clone()
    kept.batch(np.arange(5), 0).zero_()
    assert torch.equal(kept.batch(np.arange(5), 0), before)


def test_one_view_only_is_kept_and_takes_four_bytes_a_number():
    assert size_bytes(live_of()) == 4 * 11 * 64 * 8 * 8
    with pytest.raises(ValueError, match="differ from view to view"):
        KeptActivations(live_of(strength=0.5))


def test_chosen_ones_are_counted_anew_and_read_as_the_images_that_they_are():
    """Augmented, too: a chosen image is seen as it is among all."""
    source = live_of(strength=0.5)
    chosen = ChosenActivations(source, np.array([9, 2, 4]))
    assert (len(chosen), chosen.shape, chosen.varies) == (3, source.shape, True)
    assert torch.equal(chosen.batch(np.array([2, 0]), 3), source.batch(np.array([4, 9]), 3))
