"""Cutting changes nothing, frozen means frozen, and the images are what torchvision's networks expect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings
from torchvision.transforms import v2

from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut, pin, prepare, train_mode
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.models.registry import BACKBONES
from raysearch.recipe import Recipe, Stage
from tests.networks import SMALL, classifier_of, spec_of

CPU = torch.device("cpu")
PUBLISHED = [name for name, spec in BACKBONES.items() if spec.imagenet is not None]
EVERY_DEPTH = [(name, depth) for name in SMALL for depth in range(len(spec_of(name).block_names) + 1)]
every_depth = pytest.mark.parametrize(("backbone", "depth"), EVERY_DEPTH)
every_small = pytest.mark.parametrize("backbone", SMALL)


def images_of(n=3, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def copies(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def torchvisions(backbone, classifier, size):
    """The whole network that torchvision builds, with the classifier's tensors in it."""
    sized = {"image_size": size} if backbone.startswith("vit") else {}
    meta = torch.device("cpu" if backbone.startswith("regnet") else "meta")  # see there
    with meta:
        network = getattr(models, backbone)(weights=None, **sized).eval()
    ours = classifier.state_dict()
    # In torchvision's layout, whatever ours is: the layout of a convolution's weights can change the last bits.
    theirs = {name: ours[own].contiguous() for name, own in spec_of(backbone).layout.own_names.items()}
    if sized:
        theirs = interpolate_embeddings(size, 16, theirs)
    network.load_state_dict(theirs, strict=False, assign=True)
    return network


class Enough(Exception):  # noqa: N818
    """What is wanted has been seen; the rest of the network has no tensors."""


def read_by_its_classifier(network, images):
    """What torchvision's forward() gives to its first linear layer; of VGG, whose pooling is not global, the mean."""
    heads = [getattr(network, name) for name in ("fc", "classifier", "head", "heads") if hasattr(network, name)]
    linear = next(module for module in heads[0].modules() if isinstance(module, nn.Linear))
    seen = []

    def look(module, inputs):
        seen.append(inputs[0])
        raise Enough

    (network.avgpool if isinstance(network, models.VGG) else linear).register_forward_pre_hook(look)
    with torch.no_grad(), pytest.raises(Enough):
        network(images)
    return seen[0].mean((2, 3)) if seen[0].ndim == 4 else seen[0]


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_prefix_then_suffix_is_what_torchvisions_classifier_reads(backbone):
    """At every depth, with the same weights, in torchvision's own forward()."""
    classifier = classifier_of(backbone).eval()
    images = prepare(images_of(2), CPU)
    expected = read_by_its_classifier(torchvisions(backbone, classifier, 32), images)
    whole = {"rtol": 1e-5, "atol": 1e-5 * expected.abs().max().item()}
    assert expected.std() > 1e-3, "features that are the same everywhere would prove nothing"
    boundary = images
    with torch.no_grad():
        for depth in range(len(spec_of(backbone).block_names), -1, -1):
            prefix, suffix = cut(classifier, depth)
            for block in list(prefix)[-1 if depth else -2 :]:  # the prefix of the depth before had one block less
                boundary = block(boundary)
            torch.testing.assert_close(suffix[:-1](boundary), expected, **whole)


@every_depth
def test_a_cut_changes_no_bit(backbone, depth):
    classifier, images = classifier_of(backbone).eval(), prepare(images_of(), CPU)
    prefix, suffix = cut(classifier, depth)
    with torch.no_grad():
        boundary = prefix(images)
        assert torch.equal(suffix(boundary), classifier(images))


@pytest.mark.parametrize("backbone", ["densenet121", "vgg16"])
def test_a_plain_batch_gives_torchvisions_bits_too(backbone):
    """What people try first is a contiguous batch, not channels_last."""
    classifier = classifier_of(backbone).eval()
    plain = prepare(images_of(), CPU).contiguous()
    prefix, suffix = cut(classifier, 2)
    with torch.no_grad():
        maps = torchvisions(backbone, classifier, 32).features(plain)
        maps = maps.relu() if backbone == "densenet121" else maps
        assert torch.equal(suffix[:-1](prefix(plain)), functional.adaptive_avg_pool2d(maps, 1).flatten(1))


@pytest.mark.parametrize("size", [16, 224])
def test_positions_are_the_trained_ones_or_interpolated_as_torchvision_does_it(size):
    classifier, images = classifier_of("vit_b_16", size=size).eval(), prepare(images_of(1, size), CPU)
    [stem] = [child for name, child in classifier.named_children() if name == "stem"]
    network = torchvisions("vit_b_16", classifier, size)
    with torch.no_grad():
        patches = network._process_input(images)
        tokens = torch.cat([network.class_token, patches], dim=1) + network.encoder.pos_embedding
        torch.testing.assert_close(stem(images), tokens, rtol=1e-5, atol=1e-5)


@every_depth
def test_prefix_and_suffix_share_out_the_classifiers_tensors(backbone, depth):
    classifier = classifier_of(backbone)
    prefix, suffix = (part.state_dict(keep_vars=True) for part in cut(classifier, depth))
    whole = classifier.state_dict(keep_vars=True)
    assert not prefix.keys() & suffix.keys()
    assert {name: id(tensor) for name, tensor in (prefix | suffix).items()} == {k: id(v) for k, v in whole.items()}
    opened = {name.partition(".")[0] for name in suffix} - {"head"}
    names = spec_of(backbone).block_names
    assert opened == set(names[len(names) - depth :])


@pytest.mark.parametrize(
    ("backbone", "depth", "batch_norm"),
    [(name, depth, "frozen") for name, depth in EVERY_DEPTH]
    + [(name, len(spec_of(name).block_names), "train") for name in SMALL if "mini" not in name],
)
def test_training_the_suffix_leaves_prefix_and_its_activations_alone(backbone, depth, batch_norm):
    """In-place ReLUs must not write into boundary activations, which are cached; nothing frozen may drift."""
    classifier = classifier_of(backbone)
    prefix, suffix = cut(classifier, depth)
    pin(prefix)
    train_mode(suffix, batch_norm=batch_norm == "train")
    frozen, opened = copies(prefix), copies(suffix)
    # 64 px: at 32 px the last map is one pixel, and train-mode BatchNorm needs more than one value a channel.
    with torch.no_grad():
        boundary = prefix(prepare(images_of(2, 64), CPU))
    kept = boundary.clone()
    optimizer = torch.optim.AdamW(suffix.parameters(), lr=1e-2)
    functional.cross_entropy(suffix(boundary), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert torch.equal(boundary, kept)
    assert all(torch.equal(frozen[name], tensor) for name, tensor in prefix.state_dict().items())
    moved = {name for name, tensor in suffix.state_dict().items() if not torch.equal(opened[name], tensor)}
    assert {name for name, _ in suffix.named_parameters()} <= moved
    assert (moved - {name for name, _ in suffix.named_parameters()} != set()) == (
        batch_norm == "train" and any("running_mean" in name for name in opened)
    )


@every_small
def test_a_pinned_prefix_does_not_move_when_data_pass(backbone):
    classifier = classifier_of(backbone).train()
    prefix = pin(cut(classifier, 0)[0])
    before = copies(prefix)
    for seed in range(3):
        prefix(prepare(images_of(seed=seed), CPU))
    assert all(torch.equal(before[name], tensor) for name, tensor in prefix.state_dict().items())
    assert not any(p.requires_grad for p in prefix.parameters())


@every_small
def test_same_recipe_same_classifier(backbone):
    one, two = classifier_of(backbone).state_dict(), classifier_of(backbone).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("pooling", "factor"), [("avg", 1), ("max", 1), ("both", 2)])
def test_the_head_fits_the_pooling(pooling, factor):
    prefix, suffix = cut(classifier_of("simple_cnn", pooling, classes=7), 0)
    pooled = prefix(prepare(images_of(), CPU))
    assert pooled.shape == (3, factor * spec_of("simple_cnn").channels)
    assert suffix(pooled).shape == (3, 7)


@pytest.mark.parametrize("depth", [-1, 5])
def test_a_depth_that_there_is_not_is_refused_with_the_blocks(depth):
    with pytest.raises(InputError, match=f"depth {depth}: the backbone has 4 blocks .block1, block2"):
        cut(classifier_of("simple_cnn"), depth)


def test_everything_a_recipe_asks_too_much_is_said_at_once():
    recipe = Recipe(backbone="vgg19", image_size=16, schedule=(Stage(depth=6, epochs=1),))
    with pytest.raises(InputError) as caught:
        build_classifier(recipe, 2)
    depth, size = caught.value.problems
    assert "depth 6: vgg19 has 5 blocks" in depth
    assert "image size 16: vgg19 needs at least 32 px" in size


def test_prepared_images_are_torchvisions_normalisation_channels_last():
    images = images_of(4, 9)
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    ours = prepare(images, CPU)
    torch.testing.assert_close(ours, theirs(torch.from_numpy(images).permute(0, 3, 1, 2)), rtol=0, atol=2e-6)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(prepare(torch.from_numpy(images), CPU), ours)


def test_preparing_reads_a_memory_map_and_does_not_write(tmp_path):
    np.save(tmp_path / "pixels.npy", images_of(5))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    prepare(pixels[:2], CPU).zero_()
    writable = images_of(5)
    prepare(writable, CPU).zero_()
    assert np.array_equal(pixels, images_of(5))
    assert np.array_equal(writable, images_of(5))


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8), np.uint8)]
)
def test_anything_but_byte_images_is_refused(images):
    with pytest.raises(ValueError, match="images must be uint8"):
        prepare(images, CPU)
