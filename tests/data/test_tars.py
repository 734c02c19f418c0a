"""Folders of images that somebody packed into a .tar, which is no WebDataset shard."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill, picture, put


def packed(folder: Path, file: Path, mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=".")
    return file


def test_class_folders_in_a_tar_are_read(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"flowers/rose": 8, "flowers/aster": 8})
    put(root / "flowers/rose/._001.png", b"x")
    put(root / "__MACOSX/rose/001.png", picture(99))
    put(root / "flowers/aster/v1.2.png", picture(98))
    put(root / "flowers/LICENSE.txt", b"x")
    listing = list_source(str(packed(root, tmp_path / "a.tar")))
    assert (listing.classes, len(listing)) == (("aster", "rose"), 17)
    assert listing.account.reading == "2 classes, a folder each, below flowers/."
    for position, path in enumerate(listing.paths):
        assert listing.reader.read(position) == (root / path).read_bytes()
    assert {tally.what for tally in listing.account.passed_over} == {
        "other files", "hidden images", "files in folders of a Mac's archiver",
    }  # fmt: skip


def test_a_tar_a_split(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("test", 50)):
        packed(fill(tmp_path / split, {"a": 8, "b": 8}, start), tmp_path / f"{split}.tar")
    listing = list_source(str(tmp_path / "*.tar"))
    assert {split: sum(found.values()) for split, found in listing.counts().items()} == {
        "train": 14,
        "val": 2,
        "test": 16,
    }
    assert listing.reader.read(0) == (tmp_path / listing.paths[0]).read_bytes()


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a .cls, or a .json with a label, must stand beside each"):
        list_source(str(packed(fill(tmp_path / "d", {".": 8}), tmp_path / "a.tar")))
    with pytest.raises(InputError, match="can be read in several ways"):
        list_source(str(packed(fill(tmp_path / "e", {"x/a": 4, "x/b": 4, "y/a": 4, "y/b": 4}), tmp_path / "b.tar")))
    with pytest.raises(InputError, match="compressed"):
        list_source(str(packed(tmp_path / "d", tmp_path / "c.tar", "w:gz")))
