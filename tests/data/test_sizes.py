"""One source in several sizes: the same images in the same order, whatever pixels say of copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.data.unlabelled import load_unlabelled, without_copies
from raysearch.errors import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two training images of red are one at 8 px, and copies of a test image there; at 16 px all differ."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("val", 3), ("test", 3)):
        for name in ("red", "blue"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(n):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    plain = np.full((16, 16, 3), 100, np.uint8)
    Image.fromarray(plain).save(tmp_path / "photos/test/red/plain.png")
    spotted = plain.copy()
    spotted[0, 0] = 101
    Image.fromarray(spotted).save(tmp_path / "photos/train/red/spotted.png")
    return tmp_path / "photos"


def at(photos: Path, size: int, *, keep_copies: bool) -> Dataset:
    return load(str(photos), image_size=size, cache=photos.parent / "cache", progress=False, keep_copies=keep_copies)


@pytest.mark.parametrize(("first", "other"), [(8, 16), (16, 8)])
def test_other_sizes_have_the_images_of_the_first(first: int, other: int, photos: Path) -> None:
    one = at(photos, first, keep_copies=False)
    both = one.with_sizes([at(photos, other, keep_copies=True)])
    assert ("spotted" in str(one.train.paths)) == (first == 16), "at 8 px it is a copy of a test image"
    for name, split in both.splits.items():
        there = both.at(other).splits[name]
        assert there.paths == split.paths
        assert there.labels.tolist() == split.labels.tolist()
        assert there.pixels[np.arange(1)].shape == (1, other, other, 3)
    assert both.at(first) is both
    opened = Dataset.open_all(both.place)
    assert opened.at(other).train.paths == both.train.paths
    halved, held_out = opened.halved(0)
    assert halved.at(other).val.paths == halved.val.paths
    assert opened.at(other).halved(0)[1].paths == held_out.paths
    assert opened.with_val_trained().at(other).train.paths == opened.train.paths + opened.val.paths


def test_images_without_labels_come_in_every_size_and_without_copies_of_labelled_ones(photos: Path) -> None:
    loose = photos.parent / "loose"
    loose.mkdir()
    for number, grey in enumerate((50, 100, 150)):  # 100: a test image
        Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(loose / f"{number}.png")
    labelled = at(photos, 16, keep_copies=False).with_sizes([at(photos, 8, keep_copies=True)])
    found = load_unlabelled(loose, labelled, cache=photos.parent / "cache", progress=False)
    opened = without_copies(Dataset.open_all(found.place), labelled)
    assert {size: len(split) for size, split in opened.images.items()} == {16: 2, 8: 2}
    for size, split in opened.images.items():
        assert split.paths == ("unlabelled/0.png", "unlabelled/2.png")
        assert np.asarray(split.pixels)[:, 0, 0, 0].tolist() == [50, 150]
        assert np.asarray(split.pixels).shape[1] == size


def test_a_size_that_lacks_images_or_is_not_there_is_refused(photos: Path) -> None:
    one = at(photos, 16, keep_copies=False)
    with pytest.raises(InputError, match="1 images that are there at 16 px are not at 8 px"):
        one.with_sizes([at(photos, 8, keep_copies=False)])
    with pytest.raises(InputError, match="loaded at 16 px"):
        one.at(8)
