"""Folders that are no classes though each holds images: parts of one heap, masks, splits by other names, thumbnails."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill, picture, put


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


def totals(source: Path) -> dict[str, int]:
    return {split: sum(found.values()) for split, found in list_source(str(source)).counts().items()}


@pytest.mark.parametrize(
    "names",
    [
        ("HAM10000_images_part_1", "HAM10000_images_part_2"),
        ("images_001", "images_002", "images_003"),
        ("batch1", "batch2"),
        ("train_1", "train_2"),
        ("Images (1)", "Images (2)"),
    ],
)
def test_numbered_parts_of_one_heap_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    said = refusal(fill(tmp_path / "d", dict.fromkeys(names, 6)))
    assert "are called as numbered parts of one heap" in said
    assert f"{names[0]}/000.png,{names[0]}," in said, "the line that makes it a class"


@pytest.mark.parametrize("names", [("class_1", "class_2"), ("1", "2"), ("grade 1", "grade 2"), ("level1", "level2")])
def test_numbered_classes_are_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    assert list_source(str(fill(tmp_path / "d", dict.fromkeys(names, 6)))).classes == names


def test_splits_with_a_year_behind_them_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path / "coco", {"train2017": 8, "val2017": 4})
    assert "no class folders" in refusal(tmp_path / "coco")
    fill(tmp_path / "d", {f"{split}2017/{name}": 8 for split in ("train", "val") for name in "ab"})
    assert totals(tmp_path / "d") == {"train": 14, "val": 16, "test": 2}


def test_numbered_test_images_without_labels_are_passed_over(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/a": 8, "train/b": 8, "test1": 4})
    listing = list_source(str(root))
    assert listing.classes == ("a", "b")
    assert listing.account.passed_over[0].line() == "4 images without a label in test1/ (test1/000.png, …)"


def test_classes_in_the_names_of_files_are_said(tmp_path: Path) -> None:
    for number in range(8):
        put(tmp_path / f"d/train/{('cat', 'dog')[number % 2]}.{number}.jpg", picture(number, "JPEG"))
    fill(tmp_path / "d", {"test1": 4}, start=50)
    said = refusal(tmp_path / "d")
    assert "no class folders" in said
    assert "If cat, dog in the names of the files are the classes" in said


def test_validation_images_in_a_folder_of_images_have_no_labels(tmp_path: Path) -> None:
    """As Tiny ImageNet has it."""
    root = fill(tmp_path / "d", {"train/n1/images": 8, "train/n2/images": 8, "val/images": 5, "test/images": 5})
    listing = list_source(str(root))
    assert listing.classes == ("n1", "n2")
    assert len(listing) == 16
    assert "val/ has 5 images but no class folders" in "".join(doubt.what for doubt in listing.account.doubts)


def test_domains_with_splits_of_their_own_are_asked_about(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {f"{d}/{s}/{c}": 4 for d in ("art", "photo") for s in ("train", "test") for c in "ab"})
    said = refusal(root)
    assert "art, photo have folders of splits of their own, and folders of the same names in these (a, b)" in said
    assert "art/test/a/000.png,a,test" in said


def test_domains_with_a_folder_of_images_each_are_asked_about(tmp_path: Path) -> None:
    """As Office-31 has it: its domains would be learnt for classes."""
    root = fill(tmp_path / "d", {f"{domain}/images/{name}": 4 for domain in ("amazon", "dslr") for name in "ab"})
    assert "amazon/images, dslr/images have folders of the same names (a, b)" in refusal(root)
    assert list_source(str(root / "amazon")).classes == ("a", "b")
    assert list_source(str(fill(tmp_path / "e", {"a/images": 6, "b/images": 6}))).classes == ("a", "b")


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [("JPEGImages", "SegmentationClass"), ("images", "labels"), ("img", "gt"), ("leftImg8bit", "gtFine")],
)
def test_masks_are_no_class(tmp_path: Path, pictures: str, masks: str) -> None:
    root = fill(tmp_path / "d", {f"{pictures}/a": 6, f"{pictures}/b": 6, f"{masks}/a": 6, f"{masks}/b": 6})
    listing = list_source(str(root))
    assert (listing.classes, len(listing)) == (("a", "b"), 12)
    assert listing.account.passed_over[0].count == 12
    assert "has only the class" in refusal(fill(tmp_path / "flat", {pictures: 6, masks: 6}))


def test_masks_beside_their_images_are_passed_over(tmp_path: Path) -> None:
    """As breast ultrasound images come; a class or file that is merely called so stays."""
    root = fill(tmp_path / "d", {"benign": 6, "no_mask": 6})
    for name in ("000_mask", "000_mask_1", "001-Mask", "002_segmentation", "alone_mask"):
        put(root / f"benign/{name}.png", picture(100 + len(name)))
    listing = list_source(str(root))
    assert [path for path in listing.paths if "benign" in path][-1] == "benign/alone_mask.png"
    assert listing.counts()["train"].keys() == {"benign", "no_mask"}
    assert len(listing) == 13
    assert [tally.count for tally in listing.account.passed_over] == [4]


def test_an_empty_class_folder_of_validation_is_as_none(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/a": 6, "train/b": 6, "val/a": 3, "test/a": 3, "test/b": 3})
    (root / "val/b").mkdir()
    assert any("val lacks b" in doubt.what for doubt in list_source(str(root)).account.doubts)
    (root / "train/c").mkdir()
    assert "class folders without images: train/c" in refusal(root)


def test_runs_of_other_programs_are_no_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 6, "dog": 6, "runs/classify/train": 4, "mlruns/0/ab/artifacts": 2})
    put(root / "runs/classify/train/args.yaml", b"task: classify")
    put(root / "runs/classify/train/results.csv", b"epoch")
    put(root / "mlruns/0/ab/meta.yaml", b"run_id: ab")
    listing = list_source(str(root))
    assert (listing.classes, len(listing)) == (("cat", "dog"), 12)
    assert {tally.what for tally in listing.account.passed_over} >= {"runs of ultralytics", "runs of MLflow"}


def test_a_split_in_a_split_may_have_no_labels(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"Train/Train/a": 6, "Train/Train/b": 6, "Test/Test": 4})
    listing = list_source(str(root))
    assert (listing.classes, len(listing)) == (("a", "b"), 12)
    assert "Test/ has 4 images but no class folders" in listing.account.doubts[0].what


def test_what_other_programs_leave_is_passed_over(tmp_path: Path) -> None:
    junk = (
        "@Recycle/cat",
        "#snapshot/day",
        "dog/thumbs",
        "cat/@Recently-Snapshot",
        "dog/thumbnails",
        "Network Trash Folder/x",
    )
    root = fill(tmp_path / "d", {"cat": 6, "dog": 6} | dict.fromkeys(junk, 4))
    listing = list_source(str(root))
    assert (listing.classes, len(listing)) == (("cat", "dog"), 12)
    told = {tally.what: tally.count for tally in listing.account.passed_over}
    assert told.pop("images in folders of thumbnails") == 4
    assert sum(told.values()) == len(junk) - 1, "folders"
    assert list_source(str(fill(tmp_path / "hands", {"thumb": 6, "index": 6}))).classes == ("index", "thumb")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Reading it would wait for ever."""
    root = fill(tmp_path / "d", {"cat": 6, "dog": 6})
    os.mkfifo(root / "cat/pipe.jpg")
    os.mkfifo(root / "cat/pipe")
    listing = list_source(str(root))
    assert len(listing) == 12
    assert listing.account.passed_over[0].line().startswith("2 pipes, sockets and devices (cat/pipe")


def zipped(file: Path, names: tuple[bytes, bytes]) -> Path:
    """A zip of two classes whose names are these bytes, not said to be UTF-8."""
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(12):
            archive.writestr(f"{('A' * len(names[0]), 'B' * len(names[1]))[number % 2]}/{number}.png", picture(number))
    data = file.read_bytes()
    file.write_bytes(data.replace(b"A" * len(names[0]), names[0]).replace(b"B" * len(names[1]), names[1]))
    return file


def test_names_in_a_zip_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    chinese = list_source(str(zipped(tmp_path / "a.zip", ("猫咪咪咪".encode("gbk"), "小狗狗狗".encode("gbk")))))
    assert set(chinese.classes) == {"猫咪咪咪", "小狗狗狗"}
    assert "read as gb18030: '猫咪咪咪/0.png'" in chinese.account.doubts[0].what
    western = list_source(str(zipped(tmp_path / "b.zip", ("Zürichsee".encode("cp437"), b"Genfersee"))))
    assert western.classes == ("Genfersee", "Zürichsee")
    assert "read as cp437" in western.account.doubts[0].what
    assert len(western.reader.read(0)) > 0


def test_a_zip_whose_names_lead_out_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(12):
            archive.writestr(f"../../d/{('a', 'b')[number % 2]}/{number}.png", picture(number))
    assert list_source(str(tmp_path / "a.zip")).classes == ("a", "b")
