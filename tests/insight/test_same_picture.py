"""Copies are told from other pictures by their pixels: compressed, mirrored and cropped ones too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from raysearch.data.dataset import Split
from raysearch.insight.audit import groups
from raysearch.insight.duplicates import Duplicate, find_duplicates
from raysearch.insight.same_picture import Small, how_alike
from tests.insight.photos import jpeg, scene


def _small(image: Image.Image) -> np.ndarray:
    kept = Small(1, image.size[0])
    kept.put(0, image.convert("L"))
    return kept[0]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("near", lambda image: jpeg(image, 40)),
        ("near", lambda image: image.resize((80, 80)).resize(image.size)),
        ("mirrored", ImageOps.mirror),
        ("cropped", lambda image: image.crop((6, 3, 44, 41)).resize(image.size)),
        ("cropped", lambda image: ImageOps.mirror(image.crop((2, 2, 38, 38)).resize(image.size))),
        (None, lambda image: scene(1000)),
        (None, lambda image: Image.new("RGB", image.size, "grey")),
    ],
)
def test_one_picture(number, kind, change):
    image = scene(number)
    found, likeness = how_alike(_small(image), _small(change(image)))
    assert found == kind
    assert 0 <= likeness <= 1.0001


def test_blank_images_are_no_copies_of_each_other():
    grey, white = (_small(Image.new("RGB", (32, 32), colour)) for colour in ("grey", "white"))
    assert how_alike(grey, white)[0] is None


def test_every_copy_is_found_once_and_nothing_else():
    originals = [scene(number) for number in range(12)]
    changed = [originals[0], jpeg(originals[1], 50), ImageOps.mirror(originals[2])]
    pixels = np.stack([np.asarray(image) for image in (*originals, *changed)])
    copies = np.array([*range(12), 0, 12, 13])
    images = Split(pixels, np.zeros(15, np.int64), tuple(map(str, range(15))), copies)
    done = []
    found = find_duplicates(images, np.empty((15, 0), np.int64), done.append)
    assert [(pair.image, pair.other, pair.kind) for pair in found] == [
        (0, 12, "exact"), (1, 13, "near"), (2, 14, "mirrored"),
    ]  # fmt: skip
    assert sum(done) == 15


def test_a_crop_is_found_by_its_neighbours():
    crop = scene(3).crop((8, 8, 40, 40)).resize((48, 48))
    pixels = np.stack([np.asarray(image) for image in (scene(3), scene(4), crop)])
    images = Split(pixels, np.zeros(3, np.int64), ("a", "b", "c"))
    near = np.array([[1], [0], [0]])
    assert [(pair.image, pair.other, pair.kind) for pair in find_duplicates(images, near)] == [(0, 2, "cropped")]


def test_copies_of_copies_are_one_group():
    pairs = [Duplicate(0, 2, "exact", 1.0), Duplicate(2, 3, "near", 0.95)]
    images = Split(np.zeros((5, 8, 8, 3), np.uint8), np.zeros(5, np.int64), tuple("abcde"))
    numbers = groups(images, pairs)
    assert numbers[0] == numbers[2] == numbers[3]
    assert len(set(numbers.tolist())) == 3
    numbers = groups(replace(images, groups=np.array([7, 8, 9, 9, 8])), pairs)
    assert numbers[0] == numbers[2] == numbers[3] != numbers[1] == numbers[4]
