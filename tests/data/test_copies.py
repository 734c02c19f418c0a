"""Images whose decoded pixels are the same are found whatever their files are, and test images are never trained on."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from raysearch.data.account import Account, Copies
from raysearch.data.pixels import load
from raysearch.data.split import parts
from raysearch.errors import InputError
from raysearch.training.stratified import stratified_folds
from tests.data.pictures import fill, put

SPLITS = {f"{split}/{name}": n for split, n in (("train", 10), ("val", 4), ("test", 4)) for name in ("cat", "dog")}


def saved_again(file: Path) -> bytes:
    """The same picture in a file of other bytes."""
    note = PngInfo()
    note.add_text("Software", "another")
    stream = io.BytesIO()
    with Image.open(file) as image:
        image.save(stream, "PNG", pnginfo=note, compress_level=1)
    return stream.getvalue()


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """Two images of test/cat are in train/cat too, one of them saved again; one of test/dog is in val/dog."""
    root = fill(tmp_path / "x", SPLITS)
    shutil.copy(root / "test/cat/000.png", root / "train/cat/another.png")
    put(root / "train/cat/again.png", saved_again(root / "test/cat/001.png"))
    shutil.copy(root / "test/dog/000.png", root / "val/dog/one.png")
    return root


def test_copies_of_test_images_leave_train_and_val(leaky: Path) -> None:
    data = load(str(leaky), image_size=16, progress=False)
    copies = data.account.copies
    assert copies is not None
    assert copies.across == {"train-test": 2, "val-test": 1}
    assert copies.removed == {"train": 2, "val": 1}
    assert (len(data.train), len(data.val), len(data.test)) == (20, 8, 8)
    assert data.account.counts["train"] == {"cat": 10, "dog": 10}
    assert not {"train/cat/another.png", "train/cat/again.png", "val/dog/one.png"} & {
        *data.train.paths,
        *data.val.paths,
    }
    tested = {image.tobytes() for image in np.asarray(data.test.pixels)}
    assert not tested & {image.tobytes() for image in np.asarray(data.train.pixels)}
    assert not data.account.leaks
    said = "\n".join(doubt.line() for doubt in data.account.doubts)
    assert (
        "2 of train are in test too, 1 of val is in test too (e.g. train/cat/another.png is test/cat/000.png)" in said
    )
    assert "2 images of train and 1 image of val are left out" in said


def test_copies_are_kept_if_asked_and_then_it_is_said(leaky: Path) -> None:
    data = load(str(leaky), image_size=16, progress=False, keep_copies=True)
    assert (len(data.train), len(data.val), len(data.test)) == (22, 9, 8)
    assert data.account.leaks
    assert "the test figure is no figure of unseen images" in "\n".join(doubt.line() for doubt in data.account.doubts)
    assert data.fingerprint != load(str(leaky), image_size=16, progress=False).fingerprint


def test_a_source_without_copies_has_one_fingerprint(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", SPLITS)
    kept, not_kept = (load(str(root), image_size=16, progress=False, keep_copies=keep) for keep in (True, False))
    assert kept.fingerprint == not_kept.fingerprint
    assert not not_kept.account.doubts


def test_where_splits_are_cut_here_copies_do_not_straddle_them(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"cat": 30, "dog": 30})
    for number in range(30):
        shutil.copy(root / "cat" / f"{number:03}.png", root / "cat" / f"copy{number:03}.png")
    data = load(str(root), image_size=16, progress=False)
    seen = [{image.tobytes() for image in np.asarray(split.pixels)} for split in (data.train, data.val, data.test)]
    assert not seen[0] & seen[2]
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]


def test_one_picture_under_two_labels_is_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", SPLITS)
    for number in range(3):
        shutil.copy(root / f"train/cat/{number:03}.png", root / f"train/dog/cat{number}.png")
    data = load(str(root), image_size=16, progress=False)
    assert data.account.copies is not None
    assert data.account.copies.two_labels == 3
    assert data.account.copies.within == {"train": 3}
    said = "\n".join(doubt.line() for doubt in data.account.doubts)
    assert "3 pictures stand under two labels (train/cat/000.png is train/dog/cat0.png;" in said
    assert "Copies of an image within a split: 3 in train." in data.account.lines()


def test_a_class_of_nothing_but_copies_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", SPLITS)
    shutil.rmtree(root / "train/dog")
    shutil.copytree(root / "test/dog", root / "train/dog")
    with pytest.raises(InputError, match=r"every image of dog in train is a copy .* --keep-copies"):
        load(str(root), image_size=16, progress=False)
    assert len(load(str(root), image_size=16, progress=False, keep_copies=True).train) == 14


def test_the_account_comes_back_from_its_json(leaky: Path) -> None:
    account = load(str(leaky), image_size=16, progress=False).account
    assert Account.from_json(account.as_json()) == account
    again = load(str(leaky), image_size=16, progress=False).account
    assert again == account, "the second time it is read from the cache"
    assert Account.from_json(Account(copies=Copies()).as_json()) == Account(copies=Copies())


def test_halves_and_folds_do_not_part_copies() -> None:
    labels = np.arange(60) % 3
    copies = np.arange(60)
    copies[40:50] = copies[:10]
    half = parts(labels, 2, 0, copies)
    assert (half[40:50] == half[:10]).all()
    np.testing.assert_array_equal(parts(labels, 2, 0, np.arange(60)), parts(labels, 2, 0))
    held_out = np.empty(60, int)
    for number, (rest, held) in enumerate(stratified_folds(3, labels, 0, copies)):
        assert sorted([*rest, *held]) == list(range(60))
        held_out[held] = number
    assert (held_out[40:50] == held_out[:10]).all()
    for one, other in zip(stratified_folds(3, labels, 0, np.arange(60)), stratified_folds(3, labels, 0), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
