"""What comes from disk is what the prefix makes of the images, whoever asked first and however it got there."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.activations import live as live_module
from raysearch.activations.cache import POOLED, CacheSettings, boundary_name, gather, provenance
from raysearch.activations.kept import KeptActivations
from raysearch.activations.store import Store
from raysearch.activations.upkeep import list_entries
from raysearch.data.dataset import Split
from raysearch.recipe import Recipe, Stage
from tests.activations.cached import CPU, IMAGES, PIXELS, cached, live
from tests.networks import FEW, register_tiny, spec_of

DEPTHS = [(name, depth) for name in FEW for depth in range(len(spec_of(name).block_names))]
ALL = np.arange(IMAGES)


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch):
    register_tiny(monkeypatch)


def boundaries(root) -> list[str]:
    return sorted(entry.about["boundary"] for entry in list_entries(root))


@pytest.fixture
def passes(monkeypatch):
    """Counts the images that go through each kind of block."""
    counted: dict[str, int] = {}
    call = nn.Sequential.__call__

    def counting(self, inputs):
        for name in ("conv", "denselayer1"):
            if name in dict(self.named_children()):
                counted[name] = counted.get(name, 0) + len(inputs)
        return call(self, inputs)

    monkeypatch.setattr(nn.Sequential, "__call__", counting)
    return counted


@pytest.mark.parametrize(("backbone", "depth"), DEPTHS)
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_fp32_equals_live(tmp_path, backbone, depth, strength):
    indices = np.array([7, 0, 3])
    direct = live(depth, backbone=backbone, strength=strength)
    stored = cached(tmp_path, depth, backbone=backbone, strength=strength, views=5)
    for view in (0, 3):
        got, want = stored.batch(indices, view), direct.batch(indices, view)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert got.shape == want.shape == (3, *stored.shape)
    assert (len(stored), stored.varies) == (IMAGES, strength > 0)
    if got.ndim == 4:
        assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backbone", ["simple_cnn", "mini_vit"])
@pytest.mark.parametrize("pooling", ["avg", "max", "both"])
def test_one_entry_serves_every_pooling(tmp_path, pooling, backbone):
    for first in ("avg", "both"):
        cached(tmp_path, 0, pooling=first, backbone=backbone).batch(ALL, 0)
    fillings: list[float] = []
    stored = cached(tmp_path, 0, pooling=pooling, backbone=backbone, filled=fillings.append)
    want = live(0, pooling=pooling, backbone=backbone)
    torch.testing.assert_close(stored.batch(ALL, 0), want.batch(ALL, 0))
    assert fillings == []
    assert boundaries(tmp_path) == [POOLED]


def test_fp16_is_live_rounded(tmp_path):
    stored, want = cached(tmp_path, dtype="fp16").batch(ALL, 0), live().batch(ALL, 0)
    assert stored.dtype == torch.float32
    torch.testing.assert_close(stored, want, rtol=2e-3, atol=2e-3)
    assert not torch.equal(stored, want)


def test_fp16_holds_what_bf16_computes(tmp_path):
    """Its eight digits fit in fp16's eleven: nothing is lost on top of the precision that the prefix ran in."""
    settings = {"precision": "bf16", "backbone": "densenet121"}
    torch.testing.assert_close(cached(tmp_path, 2, dtype="fp16", **settings).batch(ALL, 0),
                               live(2, **settings).batch(ALL, 0), rtol=1e-6, atol=1e-6)  # fmt: skip


def test_what_fp16_cannot_hold_becomes_its_largest_number(tmp_path):
    stored = cached(tmp_path, dtype="fp16")
    with torch.no_grad():
        stored._blocks[-1][1].norm.weight.fill_(1e6)
        stored._blocks[-1][1].norm.bias.fill_(1e6)
    assert stored.batch(ALL, 0).max() == 65504


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bits_depend_on_nothing_but_the_key(tmp_path, monkeypatch, dtype, precision):
    """Not on who asks for what first, on what was kept on the way, nor on where a pass began."""
    monkeypatch.setattr(live_module, "MOST_AT_ONCE", 4)
    settings = {"backbone": "densenet121", "dtype": dtype, "precision": precision, "strength": 0.5, "views": 3}
    straight = cached(tmp_path / "a", 1, **settings)
    want = straight.batch(ALL, 1)
    for depth in (4, 3, 2):
        cached(tmp_path / "b", depth, **settings).batch(np.array([5]), 1)
    resumed = cached(tmp_path / "b", 1, **settings)
    assert torch.equal(
        torch.cat([resumed.batch(ALL[6:], 1), resumed.batch(ALL[:6], 1)]), want[[*range(6, 11), *range(6)]]
    )
    on_the_way = cached(tmp_path / "c", 1, also={"stem", "denseblock2"}, **settings)
    assert torch.equal(on_the_way.batch(ALL, 1), want)


def test_one_pass_writes_every_wanted_boundary(tmp_path, passes):
    first = cached(tmp_path, 0, also={"block2", "block3", "elsewhere"})
    _ = first._shapes, first.shape
    passes.clear()
    first.batch(ALL[:1], 0)
    assert passes == {"conv": 4 * IMAGES}
    assert boundaries(tmp_path) == ["block2", "block3", POOLED]
    passes.clear()
    for depth in (1, 2):
        torch.testing.assert_close(cached(tmp_path, depth).batch(ALL, 0), live(depth).batch(ALL, 0))
    assert passes["conv"] == (3 + 2) * IMAGES, "by the live one alone"


def test_a_pass_begins_at_the_nearest_boundary_that_is_there(tmp_path, passes):
    for depth in (3, 2):
        cached(tmp_path, depth).batch(ALL[:1], 0)
    last = cached(tmp_path, 1, also={"block1"})
    _ = last._shapes, last.shape
    passes.clear()
    last.batch(ALL[:1], 0)
    assert passes == {"conv": IMAGES}


def test_it_is_computed_once_and_then_read(tmp_path, passes):
    first = cached(tmp_path)
    a = first.batch(ALL, 0)
    passes.clear()
    assert torch.equal(first.batch(ALL, 0), a)
    assert torch.equal(cached(tmp_path).batch(ALL[::-1].copy(), 0), a.flip(0))
    assert passes.get("conv", 0) == 0


def test_views_repeat_after_so_many(tmp_path):
    stored = cached(tmp_path, strength=0.5, views=2)
    one, two, three = (stored.batch(ALL, view) for view in (4, 5, 6))
    assert torch.equal(one, three)
    assert not torch.equal(one, two)
    assert len(list_entries(tmp_path)) == 2
    still = cached(tmp_path, views=2)
    assert torch.equal(still.batch(ALL, 0), still.batch(ALL, 1))
    assert len(list_entries(tmp_path)) == 3
    assert not cached(tmp_path, strength=0.5, views=1).varies


@pytest.mark.parametrize(
    "change",
    [
        {"strength": 0.25},
        {"strength": 0.5, "seed": 2},
        {"strength": 0.5, "dtype": "fp16"},
        {"strength": 0.5, "precision": "bf16"},
        {"strength": 0.5, "about": {"weights": "others"}},
        {"strength": 0.0},
    ],
    ids=str,
)
def test_what_differs_is_kept_apart(tmp_path, change):
    cached(tmp_path, strength=0.5).batch(ALL, 0)
    fillings: list[float] = []
    cached(tmp_path, filled=fillings.append, **change).batch(ALL, 0)
    assert [seconds > 0 for seconds in fillings] == [True]
    assert len(list_entries(tmp_path)) == 2


def test_the_key_tells_images_from_images():
    recipe = Recipe(backbone="simple_cnn", image_size=32, schedule=(Stage(depth=0, epochs=1),))
    split = Split(PIXELS, np.zeros(IMAGES, np.int64), tuple(f"{i}.png" for i in range(IMAGES)))
    fewer = Split(PIXELS[::2], np.zeros(6, np.int64), split.paths[::2])
    keys = [
        provenance(recipe, "w", "f", "train", split),
        provenance(recipe, "w", "f", "train", fewer),
        provenance(recipe, "w", "g", "train", split),
        provenance(recipe, "v", "f", "train", split),
        provenance(recipe.model_copy(update={"fit": "pad"}), "w", "f", "train", split),
    ]
    assert all(a != b for i, a in enumerate(keys) for b in keys[:i])


def test_without_room_it_goes_on_live_and_says_so(tmp_path, caplog):
    stored = cached(tmp_path, limit_bytes=100)
    torch.testing.assert_close(stored.batch(ALL, 0), live().batch(ALL, 0))
    stored.batch(ALL, 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "once a view"
    assert "no room" in caplog.text
    assert list(tmp_path.glob("*/*.*")) == list(tmp_path.glob("locks/*.lock"))


def test_with_room_for_one_boundary_only_the_needed_one_is_kept(tmp_path):
    needed = 4096 + 4 * IMAGES * 128 * 4 * 4
    stored = cached(tmp_path, 1, also={"block1"}, limit_bytes=needed)
    torch.testing.assert_close(stored.batch(ALL, 0), live(1).batch(ALL, 0))
    assert boundaries(tmp_path) == ["block3"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.85 GB)"),
    ],
)
def test_a_full_disk_or_memory_leaves_nothing_and_goes_on_live(tmp_path, monkeypatch, caplog, error):
    def full(self, rows):
        raise error

    monkeypatch.setattr("raysearch.activations.store.Writer.write", full)
    torch.testing.assert_close(cached(tmp_path).batch(ALL, 0), live().batch(ALL, 0))
    assert str(error) in caplog.text
    assert not [*tmp_path.glob("*/*.act"), *tmp_path.glob("*/*.tmp")]


def test_a_failing_prefix_leaves_nothing(tmp_path):
    stored = cached(tmp_path)
    stored._blocks[-1] = (stored._boundary, nn.Linear(3, 1))
    with pytest.raises(RuntimeError):
        stored.batch(ALL, 0)
    assert not [*tmp_path.glob("*/*.act"), *tmp_path.glob("*/*.tmp")]


def test_whoever_waits_too_long_goes_on_live(tmp_path, caplog):
    stored = cached(tmp_path, wait_seconds=0.1)
    with Store(tmp_path).turn(stored._key(0), 1.0):
        torch.testing.assert_close(stored.batch(ALL, 0), live().batch(ALL, 0))
    assert "another process has been filling" in caplog.text


def test_a_damaged_file_is_made_again(tmp_path, caplog):
    want = cached(tmp_path).batch(ALL, 0)
    path = list_entries(tmp_path)[0].path
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(cached(tmp_path).batch(ALL, 0), want)
    assert "cannot be used" in caplog.text
    assert len(list_entries(tmp_path)) == 1


def test_what_is_read_may_be_written_to(tmp_path):
    stored = cached(tmp_path)
    before = stored.batch(ALL, 0).clone()
    stored.batch(ALL, 0).zero_()
    assert torch.equal(stored.batch(ALL, 0), before)


def test_it_can_be_kept_in_memory_on_top(tmp_path):
    stored = cached(tmp_path, strength=0.0)
    assert torch.equal(KeptActivations(stored).batch(ALL, 4), stored.batch(ALL, 4))


def test_a_boundary_that_freezes_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to save"):
        cached(tmp_path, 4)


@pytest.mark.parametrize("bad", [-1, IMAGES])
def test_indices_outside_are_refused(bad):
    with pytest.raises(IndexError, match="must be in"):
        gather(np.zeros((IMAGES, 2), np.float16), np.array([0, bad]), CPU)


def test_no_indices_are_no_rows():
    assert gather(np.zeros((IMAGES, 2), np.float16), ALL[:0], CPU).shape == (0, 2)


@pytest.mark.parametrize("backbone", FEW)
def test_boundaries_have_the_names_of_the_last_frozen_block(backbone):
    blocks = spec_of(backbone).block_names
    names = [boundary_name(blocks, depth) for depth in range(len(blocks) + 1)]
    assert names == [POOLED, *reversed(blocks[:-1]), None]


def test_settings_travel_and_are_checked():
    settings = CacheSettings((0, 2), views=4, seed=3)
    assert CacheSettings.from_json({"depths": [0, 2], "views": 4, "seed": 3}) == settings
    with pytest.raises(ValueError, match="views at least 1"):
        CacheSettings((1,), views=0)
    with pytest.raises(ValueError, match="dtype must be one of fp16, fp32"):
        CacheSettings((1,), dtype="bf16")
