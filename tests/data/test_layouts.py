"""A folder is read by what lies below it, in one way or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.data.split_names import split_folders, split_name
from raysearch.errors import InputError
from tests.data.pictures import fill, picture, put


def counts(listing: Listing) -> dict[str, dict[str, int]]:
    return {split: {name: n for name, n in found.items() if n} for split, found in listing.counts().items()}


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


def doubts(listing: Listing) -> str:
    return "\n".join(doubt.line() for doubt in listing.account.doubts)


def passed(listing: Listing) -> dict[str, int]:
    return {tally.what: tally.count for tally in listing.account.passed_over}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("trn", "train"), ("training_set", "train"), ("Train Data", "train"),
        ("TrainSet", "train"), ("trainset", "train"), ("train-images", "train"), ("val", "val"), ("VALID", "val"),
        ("validation_set", "val"), ("dev", "val"), ("test", "test"), ("Testing", "test"), ("test_set", "test"),
        ("Test Data", "test"), ("eval", "test"), ("train1", None), ("trains", None), ("invalid", None), ("data", None),
        ("cat", None), ("testimony", None), ("", None), ("train test", None),
    ],
)  # fmt: skip
def test_words_for_splits(name: str, split: str | None) -> None:
    assert split_name(name) == split


def test_splits_side_by_side_may_share_other_words() -> None:
    assert split_folders(["seg_train", "seg_test", "seg_pred"]) == {"seg_train": "train", "seg_test": "test"}
    assert split_folders(["seg_train", "cat"]) == {}
    assert split_folders(["train", "test", "eval"]) == {"train": "train", "test": "test", "eval": "val"}


CLASSES = {"cat": 4, "dog": 4}


def within(*places: str) -> dict[str, int]:
    return {f"{place}/{name}": n for place in places for name, n in CLASSES.items()}


@pytest.mark.parametrize(
    ("places", "reading"),
    [
        (("train", "test"), "2 classes in train/ and test/."),
        (("a/train", "a/test"), "2 classes in train/ and test/, below a/."),
        (("training_set", "test_set"), "2 classes in training_set/ (train) and test_set/ (test)."),
        (("Train Data", "Test Data"), "2 classes in Train Data/ (train) and Test Data/ (test)."),
        (
            ("seg_train/seg_train", "seg_test/seg_test"),
            "2 classes in seg_train/seg_train/ (train) and seg_test/seg_test/ (test).",
        ),
        (("x/trn/images", "x/tst/images"), "2 classes in trn/images/ (train) and tst/images/ (test), below x/."),
        (("train/train", "test"), "2 classes in train/train/ and test/."),
    ],
)
def test_splits_by_many_names(tmp_path: Path, places: tuple[str, str], reading: str) -> None:
    listing = list_source(str(fill(tmp_path / "x", within(*places))))
    assert listing.classes == ("cat", "dog")
    assert counts(listing)["test"] == CLASSES
    assert sum(counts(listing)["train"].values()) + sum(counts(listing)["val"].values()) == 8
    assert all(path.startswith(places[1]) == (split == "test") for path, split in zip(listing.paths, listing.splits))  # noqa: B905
    assert listing.account.reading == reading


def test_images_to_be_predicted_beside_the_splits_have_no_labels(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", within("seg_train/seg_train", "seg_test/seg_test") | {"seg_pred/seg_pred": 7})
    listing = list_source(str(root))
    assert counts(listing)["test"] == CLASSES
    assert passed(listing) == {"images without a label in seg_pred/": 7}


def test_unlabelled_test_images_are_said_not_to_be_read(tmp_path: Path) -> None:
    listing = list_source(str(fill(tmp_path / "x", {"train/cat": 8, "train/dog": 8, "test": 5})))
    assert passed(listing)["images without a label in test/"] == 5
    assert "test/ has 5 images but no class folders" in doubts(listing)
    assert set(counts(listing)["test"]) == {"cat", "dog"}, "they are cut from train"


def test_splits_in_each_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {f"{c}/{s}": n for c in ("cat", "dog") for s, n in (("train", 6), ("Test Set", 3))})
    listing = list_source(str(root))
    assert listing.classes == ("cat", "dog")
    assert counts(listing)["test"] == {"cat": 3, "dog": 3}
    assert listing.account.reading == "2 classes, each with Test Set/ and train/ of its own."


def test_folders_of_the_same_names_in_every_folder_are_asked_about(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path / "x", within("part1", "part2")))
    assert "can be read in several ways: part1, part2 have folders of the same names (cat, dog)" in said
    assert "part1/cat/000.png,part1," in said
    assert "part1/cat/000.png,cat," in said
    listing = list_source(str(fill(tmp_path / "y", {"cat/one": 4, "cat/two": 4, "dog/one": 4, "dog/three": 4})))
    assert listing.classes == ("cat", "dog"), "one name in common is chance"


def test_a_copy_of_the_layout_inside_itself_is_asked_about(tmp_path: Path) -> None:
    """The chest X-rays of Kaggle, and its malaria cells."""
    said = refusal(fill(tmp_path / "x", within("c/train", "c/test", "c/c/train", "c/c/test")))
    assert "c has train, val or test folders of its own" in said
    assert "take one away, or give --data" in said
    said = refusal(fill(tmp_path / "y", within("cells") | CLASSES))
    assert "the folder cells holds folders of the same names as those beside it (cat, dog)" in said


def test_a_split_of_an_unknown_name_is_asked_about(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path / "x", within("train", "test", "extra")))
    assert "extra holds the same class folders as test, train" in said
    assert "extra/cat/000.png,cat,train" in said


def test_two_folders_for_one_split_are_asked_about(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path / "x", within("train", "training", "test")))
    assert "train, training are both called as train images are" in said


def test_class_and_split_in_one_name_are_asked_about(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {f"{c}_{s}": 4 for c in ("cat", "dog") for s in ("train", "test")})
    assert "have a class and a split in one name" in refusal(root)


def test_some_classes_with_splits_and_some_without_are_asked_about(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path / "x", {"cat/train": 4, "cat/test": 4, "dog": 9}))
    assert "cat/ has folders that look like splits" in said


def test_classes_that_are_called_as_splits_are(tmp_path: Path) -> None:
    """Case 35: images that lie directly in it make it a class."""
    assert list_source(str(fill(tmp_path / "x", {"valid": 9, "invalid": 9}))).classes == ("invalid", "valid")
    assert list_source(str(fill(tmp_path / "y", {"train": 9, "car": 9, "bus": 9}))).classes == ("bus", "car", "train")
    said = refusal(fill(tmp_path / "z", {"train/steam": 9, "train/diesel": 9, "car": 9, "bus": 9}))
    assert "class folders beside its train, val or test folders: bus, car" in said
    assert "give a .csv (path,label) with lines such as train/diesel/000.png,train and bus/000.png,bus" in said


def test_folders_of_masks_are_no_images_of_their_class(tmp_path: Path) -> None:
    """The COVID radiographs of Kaggle."""
    root = fill(tmp_path / "x", {f"{c}/{what}": 6 for c in ("ill", "well") for what in ("images", "masks")})
    listing = list_source(str(root))
    assert listing.classes == ("ill", "well")
    assert len(listing) == 12
    assert all("/images/" in path for path in listing.paths)
    assert passed(listing) == {"images in folders of masks": 12}


def test_thumbnails_bins_and_caches_are_passed_over(tmp_path: Path) -> None:
    """Case 14."""
    root = fill(tmp_path / "x", {"cat": 6, "dog": 6})
    for name in (
        "cat/@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/a.jpg", "#recycle/b.jpg", "dog/$RECYCLE.BIN/c.png",
        "lost+found/d.png", "__pycache__/e.png", ".thumbs/f.png", "cat/._000.png", "__MACOSX/cat/g.png",
    ):  # fmt: skip
        put(root / name, picture(99))
    listing = list_source(str(root))
    assert listing.classes == ("cat", "dog")
    assert len(listing) == 12
    assert passed(listing) == {
        "folders of a NAS's thumbnails": 2, "recycle bins": 2, "folders of the file system": 1, "hidden images": 1,
        "folders of Python's": 1, "hidden folders": 1, "folders of a Mac's archiver": 1,
    }  # fmt: skip


def test_runs_and_what_else_this_program_makes_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 3: `cd photos; tune --data .`, twice."""
    root = fill(tmp_path / "x", {"cat": 6, "dog": 6})
    monkeypatch.chdir(root)
    before = list_source(".")
    for name in ("run.json", "log.jsonl"):
        put(root / "results" / "fine_tune-1" / name, b"{}")
    put(root / "results" / "fine_tune-1" / "pictures" / "augmented" / "cat.png", picture(99))
    put(root / "plan.png", picture(98))
    put(root / "wandb" / "run-20250102_030405-x" / "files" / "media" / "a.png", picture(97))
    monkeypatch.setenv("RAYSEARCH_CACHE", str(root / "cache"))
    put(root / "cache" / "pixels" / "p.png", picture(96))
    after = list_source(".")
    assert after.classes == before.classes
    assert after.paths == before.paths
    assert after.reader.fingerprint() == before.reader.fingerprint()
    assert passed(after)["run folders"] == 1
    assert passed(after)["caches of raysearch"] == 1
    assert "is the folder of a run" in refusal(root / "results" / "fine_tune-1")


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    """Case 13."""
    root = fill(tmp_path / "photos" / "d", {"cat": 10, "dog": 10})
    fill(tmp_path / "photos" / "private", {"x": 5})
    (root / "cat" / "up").symlink_to("..")
    (root / "dog" / "far").symlink_to("../..")
    listing = list_source(str(root))
    assert {label: n for found in counts(listing).values() for label, n in found.items()}.keys() == {"cat", "dog"}
    assert len(listing) == 20
    assert passed(listing) == {"links to a folder above them": 2}


def test_a_folder_that_is_linked_to_is_read_once(tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere", {"cats": 6})
    root = fill(tmp_path / "d", {"dog": 6})
    (root / "cat").symlink_to(elsewhere / "cats")
    (root / "also").symlink_to(elsewhere / "cats")
    listing = list_source(str(root))
    assert len(listing) == 12
    assert listing.classes == ("also", "dog")
    assert "cat links to a folder that is read already" in doubts(listing)


def test_a_zip_whose_names_begin_with_a_dot(tmp_path: Path) -> None:
    """Case 27; and names with Windows' separators."""
    for start, mark in (("./", "/"), ("d\\", "\\")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for number in range(12):
                member = zipfile.ZipInfo(f"{start}{'cat' if number % 2 else 'dog'}{mark}{number}.png")
                member.filename = f"{start}{'cat' if number % 2 else 'dog'}{mark}{number}.png"
                archive.writestr(member, picture(number))
        listing = list_source(str(tmp_path / "a.zip"))
        assert listing.classes == ("cat", "dog")
        assert len(listing) == 12
        position = next(n for n, path in enumerate(listing.paths) if path.endswith("cat/3.png"))
        assert listing.reader.read(position) == picture(3)


def test_a_zip_of_unflagged_utf8_names(tmp_path: Path) -> None:
    """As a Mac writes them."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(12):
            archive.writestr(f"{'né' if number % 2 else 'dog'}/{number}.png", picture(number))
    raw = (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        flagged = [info for info in archive.infolist() if info.flag_bits & 0x800]
    assert flagged
    data = bytearray(raw)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset + 1] &= ~0x08
            place = data.find(mark, place + 4)
    (tmp_path / "b.zip").write_bytes(data)
    assert list_source(str(tmp_path / "b.zip")).classes == ("dog", "né")


@pytest.mark.usefixtures("no_extras")
def test_photos_that_are_not_read_are_told_with_how_to_convert_them(tmp_path: Path) -> None:
    """Case 6."""
    root = fill(tmp_path / "x", {"cat": 10, "dog": 10})
    for number in range(30):
        put(root / "cat" / f"IMG_{number}.HEIC", b"\0\0\0\x18ftypheic")
    listing = list_source(str(root))
    assert passed(listing) == {"HEIC photos": 30}
    assert "30 HEIC photos are not read (cat/IMG_0.HEIC" in doubts(listing)
    assert "convert them to JPEG" in doubts(listing)
    for number in range(10):
        (root / "cat" / f"{number:03}.png").unlink()
    assert "cat (30 HEIC photos are in it)" in refusal(root)
    assert "30 HEIC photos" in refusal(root / "cat")


@pytest.mark.usefixtures("no_extras")
def test_images_of_other_endings_are_known_by_their_content(tmp_path: Path) -> None:
    """Case 7."""
    root = fill(tmp_path / "x", {"cat": 6, "dog": 6})
    for number, name in enumerate(["one", "two.jpg?w=200", "three.jpe", "four.jpg_large"]):
        put(root / "cat" / name, picture(100 + number, "JPEG"))
    put(root / "cat" / "five", picture(200, "WEBP"))
    put(root / "cat" / "six", b"no image at all")
    put(root / "cat" / "seven.dat", b"\0\0\0\x18ftypheic")
    listing = list_source(str(root))
    assert len(listing) == 12 + 5
    assert "4 images are known by their content" in " ".join(listing.account.notes)
    assert passed(listing) == {"other files": 1, "HEIC photos": 1}


def test_a_folder_beside_the_classes_that_holds_other_things_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"cat": 6, "dog": 6})
    put(root / "annotations" / "000.xml", b"<a/>")
    listing = list_source(str(root))
    assert listing.classes == ("cat", "dog")
    assert passed(listing) == {"folders without images": 1, "other files": 1}


def test_an_empty_split_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", within("train"))
    (root / "test").mkdir()
    assert "test/ is empty, so its images are cut" in doubts(list_source(str(root)))


def test_strays_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"cat": 6, "dog": 6})
    put(root / "overview.png", picture(99))
    listing = list_source(str(root))
    assert "1 images of" in doubts(listing)
    assert "lie in no class folder and are left out (overview.png)" in doubts(listing)


def test_classes_that_are_called_like_junk_are_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"compost": 4, "recycled": 4, "run": 3})
    put(root / "run" / "run-2023-05-01_3.png", picture(98))
    put(root / "RECYCLER" / "a.png", picture(99))
    assert list_source(str(root)).classes == ("compost", "recycled", "run")
