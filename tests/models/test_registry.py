"""Every backbone of the registry keeps what its spec says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import densenet121
from torchvision.ops import StochasticDepth

from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut
from raysearch.models.normalization import IMAGENET, Normalization
from raysearch.models.registry import BACKBONES, backbone_spec
from raysearch.models.summary import block_table
from raysearch.recipe import Head, Recipe, Stage
from tests.networks import SMALL, spec_of

every_backbone = pytest.mark.parametrize("spec", BACKBONES.values(), ids=list(BACKBONES))
every_small = pytest.mark.parametrize("spec", [spec_of(name) for name in SMALL], ids=SMALL)


@every_backbone
def test_blocks_are_those_the_spec_names_and_no_more_than_eight(spec):
    assert tuple({name.partition(".")[0]: None for name in spec.layout.tensors}) == spec.block_names
    assert len(spec.block_names) <= 8


@every_backbone
def test_the_smallest_image_leaves_one_place_and_a_smaller_one_is_refused(spec):
    with torch.device("meta"):
        blocks = spec.build()
    size = spec.min_image_size
    # On the CPU, what is no tensor of a file is there: it is little.
    network = nn.Sequential(*blocks.values()).eval().to("meta")
    maps = network(torch.empty(2, 3, size, size, device="meta"))
    places = maps.shape[1] - spec.tokens.before if spec.tokens else maps.shape[2] * maps.shape[3]
    assert (places, maps.shape[2 if spec.tokens else 1]) == (1, spec.channels)
    assert spec.problems(image_size=size, depth=0) == []
    assert (
        f"image size {size - 1}: {spec.name} needs at least {size} px" in spec.problems(image_size=size - 1, depth=0)[0]
    )


@pytest.mark.parametrize("name", ["densenet121", "densenet201", "vgg16", "convnext_tiny"])
def test_a_smaller_image_than_the_smallest_leaves_nothing(name):
    spec = spec_of(name)
    with torch.device("meta"), pytest.raises(RuntimeError, match="too small|can't be greater"):
        nn.Sequential(*spec.build().values()).eval()(torch.empty(2, 3, *2 * [spec.min_image_size - 1]))


@every_backbone
def test_normalisation_and_size_are_those_that_torchvision_trained_its_weights_with(spec):
    if spec.imagenet is None:
        return
    theirs = spec.imagenet.transforms()
    assert (tuple(theirs.mean), tuple(theirs.std)) == (spec.normalization.mean, spec.normalization.std)
    assert theirs.crop_size == [spec.trained_size]


@every_small
def test_first_weights_depend_on_the_seed_alone_which_they_leave_alone(spec):
    before = torch.get_rng_state()
    one = nn.Sequential(*spec.build_blocks(3).values()).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    same = nn.Sequential(*spec.build_blocks(3).values()).state_dict()
    other = nn.Sequential(*spec.build_blocks(4).values()).state_dict()
    torch.set_rng_state(before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every_small
def test_the_layout_is_that_of_the_blocks_without_their_memory(spec):
    blocks = nn.Sequential()
    for name, block in spec.build_blocks(0).items():
        blocks.add_module(name, block)
    assert {name: (t.shape, t.dtype) for name, t in spec.layout.tensors.items()} == {
        name: (t.shape, t.dtype) for name, t in blocks.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in spec.layout.tensors.values())
    assert list(spec.layout.own_names.values()) == list(spec.layout.tensors)


@every_small
def test_first_weights_keep_the_signal_in_range(spec):
    maps = nn.Sequential(*spec.build_blocks(0).values())(torch.randn(4, 3, 64, 64))
    assert torch.isfinite(maps).all()
    assert 0.005 < maps.std() < 50  # garbage, zeros or a wrong gain over 16 layers is far outside


def test_nothing_is_dropped_at_random_that_no_recipe_names():
    """Stochastic depth would make trainings differ that a recipe says are the same."""
    for name in ("convnext_tiny", "efficientnet_v2_s", "swin_t"):
        with torch.device("meta"):
            blocks = spec_of(name).build()
        assert {m.p for block in blocks.values() for m in block.modules() if isinstance(m, StochasticDepth)} == {0.0}


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (40, "image size 40: vit_b_16 cuts images into patches of 16 px; give --image-size 32 or 48"),
        (8, "image size 8: vit_b_16 needs at least 16 px; give --image-size 16 or larger"),
    ],
)
def test_a_size_that_patches_do_not_cover_is_refused(size, said):
    assert spec_of("vit_b_16").problems(image_size=size, depth=0) == [said]


def test_a_network_of_another_normalisation_takes_the_same_input():
    """Its first layer makes of ImageNet's normalisation its own."""
    other = Normalization((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    plain = spec_of("simple_cnn").build_blocks(0)
    adapted = replace(spec_of("simple_cnn"), normalization=other).build_blocks(0)
    pixels = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (other.mean, other.std))
    imagenet = (pixels - torch.tensor(IMAGENET.mean).view(3, 1, 1)) / torch.tensor(IMAGENET.std).view(3, 1, 1)
    wanted = plain["block1"].eval()((pixels - mean) / std)
    torch.testing.assert_close(adapted["block1"].eval()(imagenet), wanted)
    assert adapted["block1"].state_dict().keys() == plain["block1"].state_dict().keys()


def test_densenet_starts_exactly_as_torchvisions():
    ours = {
        name.partition(".")[2]: tensor
        for block, module in backbone_spec("densenet121").build_blocks(5).items()
        for name, tensor in nn.ModuleDict({block: module}).state_dict().items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = densenet121(weights=None, num_classes=1).features.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("head", [Head(), Head(kind="hidden")], ids=["linear", "hidden"])
def test_simple_cnn_has_about_300_000_parameters_with_its_head(head):
    recipe = Recipe(backbone="simple_cnn", image_size=32, head=head, schedule=(Stage(depth=4, epochs=1),))
    parameters = sum(p.numel() for p in build_classifier(recipe, 10).parameters())
    assert 270_000 < parameters < 330_000


def test_depth_is_counted_from_the_output():
    recipe = Recipe(backbone="densenet121", image_size=32, schedule=(Stage(depth=0, epochs=1),))
    classifier, names = build_classifier(recipe, 3), backbone_spec("densenet121").block_names
    lowest_open = [next(iter(cut(classifier, depth)[1].named_children()))[0] for depth in range(1, len(names) + 1)]
    assert lowest_open == list(reversed(names))
    assert [row.depth for row in block_table(classifier, 32)][: len(names)] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("typed", "meant"), [("densenet", "densenet"), ("VGG-16", "vgg16"), ("simplecnn", "simple_cnn")]
)
def test_an_unknown_backbone_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(InputError, match=f"unknown backbone '{typed}': did you mean {meant}"):
        backbone_spec(typed)


def test_a_name_like_none_of_them_gets_the_list_only():
    with pytest.raises(InputError) as caught:
        backbone_spec("zzz")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in BACKBONES)


def test_the_table_of_networks_says_what_the_registry_says():
    table = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    rows = {cells[0].strip("`"): cells[1:] for cells in lines if len(cells) == 6}
    for name, spec in BACKBONES.items():
        if "mini" in name:
            continue
        blocks, millions, features, trained, smallest = rows[name]
        first, last = spec.block_names[1 if blocks.startswith("stem") else 0], spec.block_names[-1]
        assert blocks.removeprefix("stem, ") == f"{first} … {last}"
        numbers = [t.numel() for n, t in spec.layout.tensors.items() if t.is_floating_point() and "running" not in n]
        assert millions == f"{sum(numbers) / 1e6:.1f} M"
        assert features == str(spec.channels)
        assert trained == (f"{spec.trained_size} px" if spec.imagenet else "from scratch")
        assert smallest == f"{spec.min_image_size} px"
