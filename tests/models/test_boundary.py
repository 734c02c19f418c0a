"""Cutting changes nothing, frozen means frozen, and the images are what torchvision's networks expect."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import densenet121, vgg19
from torchvision.transforms import v2

from raysearch.errors import InputError
from raysearch.models.boundary import IMAGENET_MEAN, IMAGENET_STD, block_names, build_classifier, cut, pin, prepare
from raysearch.models.registry import BACKBONES
from raysearch.recipe import Recipe, Stage

CPU = torch.device("cpu")
EVERY_DEPTH = [(name, depth) for name, spec in BACKBONES.items() for depth in range(len(spec.block_names) + 1)]
EXPECTED = {name: spec.expected_tensors() for name, spec in BACKBONES.items()}
every_depth = pytest.mark.parametrize(("backbone", "depth"), EVERY_DEPTH)
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)

# torchvision's whole network, and how its own forward() makes the last feature map.
TORCHVISION = {
    "densenet121": (densenet121, lambda network, images: functional.relu(network.features(images))),
    "vgg19": (vgg19, lambda network, images: network.features(images)),
}


def classifier_of(backbone, pooling="avg", size=32, classes=3):
    """A classifier whose BatchNorms have statistics of their own, as a pretrained one's have."""
    recipe = Recipe(backbone=backbone, image_size=size, pooling=pooling, schedule=(Stage(depth=0, epochs=1),))
    classifier = build_classifier(recipe, classes)
    generator = torch.Generator().manual_seed(0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return classifier


def images_of(n=3, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def copies(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def torchvision_map(backbone, classifier, images):
    """The last feature map of the whole network that torchvision builds, with the classifier's tensors in it."""
    build, features = TORCHVISION[backbone]
    with torch.device("meta"):
        network = build(weights=None).eval()
    ours = {f"features.{name.partition('.')[2]}": tensor for name, tensor in classifier.state_dict().items()}
    # In torchvision's layout, whatever ours is: the layout of a convolution's weights can change the last bits.
    theirs = {name: ours[name].contiguous() for name in network.state_dict() if name.startswith("features.")}
    network.load_state_dict(theirs, strict=False, assign=True)
    with torch.no_grad():
        return features(network, images)


def uncut_map(classifier, images):
    with torch.no_grad():
        for name in block_names(classifier):
            images = classifier.get_submodule(name)(images)
    return images


@pytest.fixture(scope="module")
def whole():
    """Per backbone: the classifier, a batch, and the feature map of the whole network."""

    @cache
    def make(backbone):
        classifier = classifier_of(backbone).eval()
        images = prepare(images_of(), CPU)
        known = backbone in TORCHVISION
        maps = torchvision_map(backbone, classifier, images) if known else uncut_map(classifier, images)
        return classifier, images, maps

    return make


@every_depth
def test_prefix_then_suffix_is_torchvisions_whole_network_bit_by_bit(whole, backbone, depth):
    classifier, images, maps = whole(backbone)
    prefix, suffix = cut(classifier, depth)
    with torch.no_grad():
        boundary = prefix(images)
        seen = []
        handle = classifier.get_submodule("pool").register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0])
        )
        logits = suffix(prefix(images))
        handle.remove()
        assert torch.equal(seen[0], maps)
        assert torch.equal(suffix(boundary), logits)
        assert torch.equal(logits, classifier(images))


@pytest.mark.parametrize("backbone", TORCHVISION)
def test_a_plain_batch_gives_torchvisions_bits_too(whole, backbone):
    """What people try first is a contiguous batch, not channels_last."""
    classifier, images, _ = whole(backbone)
    plain = images.contiguous()
    prefix, suffix = cut(classifier, 2)
    with torch.no_grad():
        pooled = suffix[:-1](prefix(plain))
    assert torch.equal(
        pooled, functional.adaptive_avg_pool2d(torchvision_map(backbone, classifier, plain), 1).flatten(1)
    )


@every_depth
def test_prefix_and_suffix_share_out_the_classifiers_tensors(backbone, depth):
    classifier = classifier_of(backbone)
    prefix, suffix = (part.state_dict(keep_vars=True) for part in cut(classifier, depth))
    whole = classifier.state_dict(keep_vars=True)
    assert not prefix.keys() & suffix.keys()
    assert {name: id(tensor) for name, tensor in (prefix | suffix).items()} == {k: id(v) for k, v in whole.items()}
    opened = {name.partition(".")[0] for name in suffix} - {"head"}
    assert opened == set(BACKBONES[backbone].block_names[len(BACKBONES[backbone].block_names) - depth :])


@pytest.mark.parametrize(
    ("backbone", "depth", "batch_norm"),
    [(name, depth, "frozen") for name, depth in EVERY_DEPTH]
    + [(name, depth, "train") for name, depth in EVERY_DEPTH if any("running" in t for t in EXPECTED[name])],
)
def test_training_the_suffix_leaves_prefix_and_its_activations_alone(backbone, depth, batch_norm):
    """In-place ReLUs must not write into boundary activations, which are cached; nothing frozen may drift."""
    classifier = classifier_of(backbone)
    prefix, suffix = cut(classifier, depth)
    pin(prefix)
    suffix.train(batch_norm == "train")
    frozen, opened = copies(prefix), copies(suffix)
    # 64 px: at 32 px the last map is one pixel, and train-mode BatchNorm needs more than one value a channel.
    with torch.no_grad():
        boundary = prefix(prepare(images_of(2, 64), CPU))
    kept = boundary.clone()
    optimizer = torch.optim.AdamW(suffix.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(suffix(boundary), torch.tensor([0, 1])).backward()
        optimizer.step()
        assert torch.equal(boundary, kept)
    assert all(torch.equal(frozen[name], tensor) for name, tensor in prefix.state_dict().items())
    moved = {name for name, tensor in suffix.state_dict().items() if not torch.equal(opened[name], tensor)}
    assert {name for name, _ in suffix.named_parameters()} <= moved
    assert (moved - {name for name, _ in suffix.named_parameters()} != set()) == (
        batch_norm == "train" and any("running_mean" in name for name in opened)
    )


@every_backbone
def test_a_pinned_prefix_does_not_move_when_data_pass(backbone):
    classifier = classifier_of(backbone).train()
    prefix = pin(cut(classifier, 0)[0])
    before = copies(prefix)
    for seed in range(3):
        prefix(prepare(images_of(seed=seed), CPU))
    assert all(torch.equal(before[name], tensor) for name, tensor in prefix.state_dict().items())
    assert not any(p.requires_grad for p in prefix.parameters())


@every_backbone
def test_same_recipe_same_classifier(backbone):
    one, two = classifier_of(backbone).state_dict(), classifier_of(backbone).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("pooling", "factor"), [("avg", 1), ("max", 1), ("both", 2)])
def test_the_head_fits_the_pooling(pooling, factor):
    prefix, suffix = cut(classifier_of("simple_cnn", pooling, classes=7), 0)
    pooled = prefix(prepare(images_of(), CPU))
    assert pooled.shape == (3, factor * BACKBONES["simple_cnn"].channels)
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
