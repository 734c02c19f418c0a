"""Every backbone of the registry keeps what its spec says."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import densenet121

from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut
from raysearch.models.registry import BACKBONES, backbone_spec
from raysearch.models.summary import block_table
from raysearch.recipe import Head, Recipe, Stage

every_backbone = pytest.mark.parametrize("spec", BACKBONES.values(), ids=list(BACKBONES))


@every_backbone
def test_blocks_are_those_the_spec_names(spec):
    assert tuple(spec.build_blocks(0)) == spec.block_names


@every_backbone
def test_the_smallest_image_leaves_one_pixel_and_a_smaller_one_none(spec):
    with torch.device("meta"):
        network = nn.Sequential(*spec.build().values()).eval()
        assert network(torch.empty(2, 3, spec.min_image_size, spec.min_image_size)).shape == (2, spec.channels, 1, 1)
        with pytest.raises(RuntimeError, match="too small"):
            network(torch.empty(2, 3, spec.min_image_size - 1, spec.min_image_size - 1))


@every_backbone
def test_first_weights_depend_on_the_seed_alone(spec):
    before = torch.get_rng_state()
    one = nn.Sequential(*spec.build_blocks(3).values()).state_dict()
    torch.rand(5)
    same = nn.Sequential(*spec.build_blocks(3).values()).state_dict()
    other = nn.Sequential(*spec.build_blocks(4).values()).state_dict()
    torch.set_rng_state(before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every_backbone
def test_building_leaves_the_random_state_of_the_process_alone(spec):
    before = torch.get_rng_state()
    spec.build_blocks(1)
    assert torch.equal(torch.get_rng_state(), before)


@every_backbone
def test_expected_tensors_are_the_blocks_own_without_their_memory(spec):
    blocks = nn.Sequential()
    for name, block in spec.build_blocks(0).items():
        blocks.add_module(name, block)
    expected = spec.expected_tensors()
    assert {name: (t.shape, t.dtype) for name, t in expected.items()} == {
        name: (t.shape, t.dtype) for name, t in blocks.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in expected.values())


@every_backbone
def test_first_weights_keep_the_signal_in_range(spec):
    maps = nn.Sequential(*spec.build_blocks(0).values())(torch.randn(4, 3, 64, 64))
    assert torch.isfinite(maps).all()
    assert 0.02 < maps.std() < 50  # garbage, zeros or a wrong gain over 16 layers is far outside


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
    ("typed", "meant"), [("densenet", "densenet121"), ("VGG16", "vgg19"), ("simplecnn", "simple_cnn")]
)
def test_an_unknown_backbone_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(InputError, match=f"unknown backbone '{typed}': did you mean {meant}"):
        backbone_spec(typed)


def test_a_name_like_none_of_them_gets_the_list_only():
    with pytest.raises(InputError) as caught:
        backbone_spec("zzz")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in BACKBONES)
