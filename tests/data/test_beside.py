"""Tables that lie beside images and say their classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raysearch.data.reading import Reading
from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill, picture


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


def write(root: Path, name: str, labels: list[str], stem: str = "{:03}.png") -> Path:
    rows = [f"{stem.format(number)},{label}" for number, label in enumerate(labels)]
    (root / name).write_text("\n".join(["image_id,dx", *rows]))
    return root


HALF = ["nv", "mel"] * 6


@pytest.mark.parametrize("folder", ["images", "train", "images_part_1"])
def test_a_table_is_named_where_the_folders_say_no_classes(tmp_path: Path, folder: str) -> None:
    root = write(fill(tmp_path / "d", {folder: 12}), "labels.csv", HALF, "{:03}")
    assert f"give --data {root}/labels.csv --images {root}" in refusal(root)
    assert len(list_source(str(root / "labels.csv"), reading=Reading({}, root))) == 12


def test_a_table_that_says_otherwise_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"left": 12})
    fill(root, {"right": 1}, start=50)
    shutil.move(root / "right/000.png", root / "right/100.png")
    for number in range(6):
        shutil.move(root / f"left/{number:03}.png", root / f"right/{number:03}.png")
    write(root, "labels.csv", HALF)
    doubts = list_source(str(root)).account.doubts
    assert doubts[0].what.startswith("labels.csv says nv of left/006.png, its folder left")
    assert doubts[0].remedy == f"If the table is right, give --data {root}/labels.csv --images {root}."
    write(root, "labels.csv", ["1"] * 6 + ["0"] * 6)
    assert not list_source(str(root)).account.doubts, "it says the same in numbers"
    (root / "labels.csv").write_text("image_id,age\n000.png,3\n")
    assert not list_source(str(root)).account.doubts


def test_a_table_in_a_zip_is_refused_where_it_counts(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"a": 6})
    fill(root, {"b": 6}, start=50)
    for number in range(6):
        shutil.move(root / f"b/{number:03}.png", root / f"b/{number + 6:03}.png")
    write(root, "labels.csv", ["x", "y"] * 6)
    said = refusal(Path(shutil.make_archive(str(tmp_path / "a"), "zip", root)))
    assert "labels.csv says" in said
    assert "unpack it" in said
    write(root, "labels.csv", ["a"] * 6 + ["b"] * 6)
    assert len(list_source(shutil.make_archive(str(tmp_path / "b"), "zip", root))) == 12
    alone = write(fill(tmp_path / "e", {"images": 12}), "labels.csv", HALF)
    assert "unpack it" in refusal(Path(shutil.make_archive(str(tmp_path / "c"), "zip", alone)))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("top", ["", "data/"])
def test_metadata_in_a_zip_are_read(tmp_path: Path, ending: str, top: str) -> None:
    root = tmp_path / "d"
    for split, start in (("train", 0), ("test", 50)):
        folder = fill(root, {f"{top}{split}/images": 12}, start) / f"{top}{split}"
        rows = [("file_name", "label"), *((f"images/{n:03}.png", HALF[n]) for n in range(12))]
        lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
        text = "\n".join(lines if ending == "jsonl" else map(",".join, rows))
        (folder / f"metadata.{ending}").write_text(text)
    inside, outside = list_source(shutil.make_archive(str(tmp_path / "a"), "zip", root)), list_source(str(root))
    for listing in (inside, outside):
        assert listing.classes == ("mel", "nv")
        assert {split: sum(found.values()) for split, found in listing.counts().items()} == {
            "train": 10, "val": 2, "test": 12,
        }  # fmt: skip
    assert inside.paths == outside.paths
    assert [inside.reader.read(n) for n in range(24)] == [outside.reader.read(n) for n in range(24)]
    (root / f"{top}train/images/003.png").unlink()
    assert "metadata." + ending + " lists 1 files that are not there: images/003.png" in refusal(
        Path(shutil.make_archive(str(tmp_path / "b"), "zip", root))
    )


def test_several_tables_are_to_be_joined(tmp_path: Path) -> None:
    """As Roboflow writes them, one a split."""
    for split, start in (("train", 0), ("valid", 50)):
        write(fill(tmp_path / "d", {split: 12}, start) / split, "_classes.csv", HALF)
    said = refusal(tmp_path / "d")
    assert "train/_classes.csv (2 classes), valid/_classes.csv (2 classes). Join them to one .csv" in said


def test_images_are_those_of_the_folders_that_the_table_says(tmp_path: Path) -> None:
    """Numbers count in each class, and ten of the cats are gone: no dog is one of them."""
    root = fill(tmp_path / "photos", {"cat": 20, "dog": 30})
    cats, dogs = ([f"{kind}/{n:03}.png" for n in range(30)] for kind in ("cat", "dog"))
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *(f"{one},cat" for one in cats), *(f"{one},dog" for one in dogs[:10])]))
    with pytest.raises(InputError, match=r"lists 10 files that are not there.*cat/020\.png"):
        list_source(str(table), reading=Reading({}, root))


@pytest.mark.parametrize("far", ["/kaggle/input/pets/train/", "C:\\Users\\me\\pets\\"])
def test_paths_of_another_machine_are_told_apart_by_their_last_folders(tmp_path: Path, far: str) -> None:
    root = fill(tmp_path / "photos", {"cat": 8, "dog": 8})
    rows = [f"{far}{kind}{far[-1]}{n:03}.png,{kind}" for kind in ("cat", "dog") for n in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    found = list_source(str(tmp_path / "labels.csv"), reading=Reading({}, root))
    assert [found.reader.read(place) for place in range(16)] == [picture(number) for number in range(16)]
    assert [found.classes[label] for label in found.labels] == ["cat"] * 8 + ["dog"] * 8
    flat = fill(tmp_path / "flat", {"all": 8})
    (tmp_path / "flat.csv").write_text("\n".join(["path,label", *rows[:4], *rows[12:]]))
    assert len(list_source(str(tmp_path / "flat.csv"), reading=Reading({}, flat))) == 8


def test_a_table_that_is_right_is_not_said_to_be_wrong_where_numbers_count_in_each_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 6, "dog": 12})
    rows = [f"{kind}/{n:03}.png,{kind}" for kind, many in (("dog", 12), ("cat", 6)) for n in range(many)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert not list_source(str(root)).account.doubts
    assert len(list_source(shutil.make_archive(str(tmp_path / "a"), "zip", root))) == 18
    (root / "labels.csv").write_text("\n".join(["path,label", *rows[1:], "dog/000.png,cat"]))
    assert "labels.csv says cat of dog/000.png, its folder dog" in list_source(str(root)).account.doubts[0].what


def test_splits_that_only_a_table_says_are_warned_of(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 8, "dog": 8})
    rows = [f"{kind}/{n:03}.png,{kind},{'test' if n > 5 else 'train'}" for kind in ("cat", "dog") for n in range(8)]
    (root / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    [doubt] = list_source(str(root)).account.doubts
    assert doubt.what == "labels.csv says splits, and is not read: val and test are cut from all images."
    assert doubt.remedy == f"Give --data {root}/labels.csv --images {root}."
    [doubt] = list_source(shutil.make_archive(str(tmp_path / "a"), "zip", root)).account.doubts
    assert "unpack it" in doubt.remedy
    (root / "labels.csv").unlink()
    (root / "metadata.csv").write_text(
        "\n".join(["file_name,split", *(row.replace(",cat,", ",").replace(",dog,", ",") for row in rows)])
    )
    [doubt] = list_source(str(root)).account.doubts
    assert doubt.what == "metadata.csv has a column split, and is not read, for it says no class."


def test_a_small_table_in_a_folder_of_its_own_is_about_nothing(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 20, "dog": 20})
    (root / "results").mkdir()
    (root / "results" / "predictions.csv").write_text("filename,label\ncat/000.png,dog\ndog/001.png,cat\n")
    assert not list_source(str(root)).account.doubts
    assert len(list_source(shutil.make_archive(str(tmp_path / "a"), "zip", root))) == 40


def test_tables_of_several_folders_are_all_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train": 12, "valid": 4, "test": 4})
    for folder, many in (("train", 12), ("valid", 4), ("test", 4)):
        rows = [f"{n:03}.png,{n % 2},{1 - n % 2}" for n in range(many)]
        (root / folder / "_classes.csv").write_text("\n".join(["filename,cat,dog", *rows]))
    said = refusal(root)
    assert all(f"{folder}/_classes.csv" in said for folder in ("train", "valid", "test"))
    assert "Join them to one .csv, with a column split" in said


def test_a_column_that_may_be_about_anything_is_doubted_where_folders_say_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"cat": 8, "dog": 8})
    rows = [f"{kind}/{n:03}.png,{('phone', 'camera')[n % 2]}" for kind in ("cat", "dog") for n in range(8)]
    (root / "metadata.csv").write_text("\n".join(["file_name,type", *rows]))
    found = list_source(str(root))
    assert found.classes == ("camera", "phone")
    assert any("The column type is taken for the class" in one.what for one in found.account.doubts)
    assert not list_source(str(root), reading=Reading({"label": "type"})).account.doubts


def test_endings_may_be_spelt_otherwise_than_in_the_table(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"all": 12})
    for file in sorted((root / "all").iterdir())[:6]:
        file.rename(file.with_suffix(".PNG"))
    write(root, "labels.csv", HALF, "all/{:03}.png")
    assert len(list_source(str(root / "labels.csv"))) == 12
