"""Labels as tables, arrays and shards have them: what stands for none, what is several, and how numbers are written."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysearch.data.labels import matched
from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill, picture


def listed(root: Path, labels: list[str], header: str = "path,label", row: str = "img/{:03}.png,{}") -> Listing:
    fill(root, {"img": len(labels)})
    lines = [row.format(number, label) for number, label in enumerate(labels)]
    (root / "list.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    return list_source(str(root / "list.csv"))


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("label", ["?", "-", "#REF!", "#NAME?", "unlabeled"])
def test_what_stands_for_no_label_is_named(tmp_path: Path, label: str) -> None:
    doubts = listed(tmp_path, [label, "cat", "dog"] * 4).account.doubts
    assert f"the class {label!r} (4 images)" in doubts[0].what


def test_minus_one_is_a_number(tmp_path: Path) -> None:
    doubts = [doubt.what for doubt in listed(tmp_path / "a", ["-1", "0", "1"] * 4).account.doubts]
    assert doubts == ["list.csv has the class '-1' (4 images), which is what programs write where a label is missing."]
    assert listed(tmp_path / "b", ["-1", "1"] * 6).account.doubts == ()
    assert matched(["-1"], ["1", "0"]) == {}, "nor is it taken for 1"


@pytest.mark.parametrize("joined", ['"cat,dog"', "cat dog", "dog + cat", "cat/dog", "cat and dog"])
def test_labels_that_are_others_joined_are_named(tmp_path: Path, joined: str) -> None:
    doubts = listed(tmp_path, [joined, "cat", "dog"] * 4).account.doubts
    assert "has classes that are others joined" in doubts[0].what
    assert "several labels" in doubts[0].what


def test_words_in_common_are_no_labels_joined(tmp_path: Path) -> None:
    assert listed(tmp_path, ["polar bear", "brown bear", "bear"] * 4).account.doubts == ()


def test_an_object_of_json_is_several_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looks multi-label"):
        listed(tmp_path, ['"{""choices"": [""cat"", ""dog""]}"', "cat", "dog"] * 4)


def test_whole_numbers_lose_their_point(tmp_path: Path) -> None:
    """As pandas writes a column of numbers in which one was missing."""
    listing = listed(tmp_path / "a", [f"{n % 12}.0" for n in range(36)])
    assert listing.classes == tuple(str(n) for n in range(12))
    assert any("(0.0), which is left out" in note for note in listing.account.notes)
    assert listed(tmp_path / "b", ["1", "1.0", "2"] * 4).classes == ("1", "2")
    assert listed(tmp_path / "c", ["1.0", "two"] * 6).classes == ("1.0", "two")


def test_letters_that_nobody_sees_are_no_difference(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"train/cat": 6, "train/dog1": 6, "test/cat\u200b": 3, "test/dog\uff11": 3})
    listing = list_source(str(root))
    assert listing.classes == ("cat", "dog1")
    assert listing.account.reading == "2 classes in train/ and test/."
    assert "'cat\\u200b' in test is taken for the class 'cat'" in listing.account.doubts[0].what
    doubts = listed(tmp_path / "e", ["cat", "cat\u200b", "dog"] * 4).account.doubts
    assert "The classes 'cat' and 'cat\\u200b' differ in hardly more" in doubts[0].what


@pytest.mark.parametrize("name", ["train", "is_training_image", "cv_fold", "train_test_split", "fold_id", "isTrain"])
def test_a_column_that_looks_like_a_split_is_asked_about(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="looks like a split"):
        listed(tmp_path, [f"{'ab'[n % 2]},{n % 3 // 2}" for n in range(12)], header=f"path,label,{name}")


@pytest.mark.parametrize("name", ["trained_by", "image_quality", "dataset", "manifold", "set_point"])
def test_a_column_that_does_not_is_named(tmp_path: Path, name: str) -> None:
    listing = listed(tmp_path, [f"{'ab'[n % 2]},{n % 3}" for n in range(12)], header=f"path,label,{name}")
    assert listing.account.not_read == (f"the column {name} of list.csv",)


def test_the_column_of_files_is_known_by_its_values(tmp_path: Path) -> None:
    """Where another one is called as columns of paths are."""
    listing = listed(tmp_path, ["cat", "dog"] * 6, header="id,file_loc,label", row="7{0},img/{0:03}.png,{1}")
    assert listing.paths[0] == "img/000.png"


def test_a_name_without_an_ending_that_two_files_have_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"img": 12})
    (tmp_path / "img/003.jpg").write_bytes(picture(99, "JPEG"))
    (tmp_path / "list.csv").write_text("\n".join(["id,label", *(f"img/{n:03},{'ab'[n % 2]}" for n in range(12))]))
    assert "img/003 as img/003.jpg, img/003.png" in refusal(tmp_path / "list.csv")


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing is downloaded"):
        listed(tmp_path, ["a", "b"] * 4, row="https://example.org/{:03}.png,{}")


def test_chinese_tables_of_excel_are_read(tmp_path: Path) -> None:
    fill(tmp_path, {"图片": 12})
    lines = ["path,label", *(f"图片/{n:03}.png,{'猫狗'[n % 2]}" for n in range(12))]
    (tmp_path / "list.csv").write_bytes("\r\n".join(lines).encode("gbk"))
    listing = list_source(str(tmp_path / "list.csv"))
    assert set(listing.classes) == {"猫", "狗"}
    assert "it was read as gb18030" in listing.account.doubts[0].what


def test_nan_of_a_typed_table_is_nothing(tmp_path: Path) -> None:
    labels = [float("nan") if n % 6 == 0 else float(n % 2) for n in range(24)]
    pq.write_table(pa.table({"image": [picture(n) for n in range(24)], "label": labels}), tmp_path / "a.parquet")
    listing = list_source(str(tmp_path / "a.parquet"))
    assert (listing.classes, len(listing)) == (("0", "1"), 20)
    assert "4 rows without a label" in listing.account.passed_over[0].line()
    lines = [json.dumps({"file_name": f"{n:03}.png", "label": labels[n]}) for n in range(24)]
    (fill(tmp_path, {".": 24}) / "a.jsonl").write_text("\n".join(lines))
    assert "4 images have no label" in refusal(tmp_path / "a.jsonl")


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.eye(3)[np.arange(12) % 3], ("0", "1", "2")),
        (np.array(["cat", "dog"])[np.arange(12) % 2], ("cat", "dog")),
        ((np.arange(12) % 2)[:, None], ("0", "1")),
    ],
)
@pytest.mark.parametrize("names", [("train_images", "train_labels"), ("images", "labels"), ("X", "y")])
def test_labels_of_arrays(tmp_path: Path, names: tuple[str, str], labels: np.ndarray, classes: tuple[str, ...]) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES, labels), strict=True)))
    listing = list_source(str(tmp_path / "a.npz"))
    assert listing.classes == classes
    expected = np.tile(np.arange(len(classes)), 12 // len(classes))
    assert listing.labels.tolist() == expected.tolist()


def test_arrays_whose_channels_come_first_are_refused_with_a_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=IMAGES.transpose(0, 3, 1, 2), train_labels=np.arange(12) % 2)
    assert "turn it by images.transpose(0, 2, 3, 1)" in refusal(tmp_path / "a.npz")


def shard(file: Path, names: list[str]) -> Path:
    with tarfile.open(file, "w") as archive:
        for number, name in enumerate(names):
            for own, data in ((name, picture(number)), (f"{number}.cls", str(number % 2).encode())):
                member = tarfile.TarInfo(own)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file


def test_names_with_dots_in_shards_are_told(tmp_path: Path) -> None:
    some = shard(tmp_path / "a.tar", [f"{n}.v2.png" if n % 6 == 5 else f"{n}.png" for n in range(24)])
    assert "4 images in shards are not read, because the ending begins at the first dot (a.tar/5.v2.png" in (
        list_source(str(some)).account.doubts[0].what
    )
    assert "without dots" in refusal(shard(tmp_path / "b.tar", [f"a.{n}.png" for n in range(12)]))


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("train.txt", "save it as .csv with the first line path,label"),
        ("labels.xlsx", "save the sheet as .csv"),
        ("data.yaml", "give the folder of the images"),
        ("coco.json", "as .jsonl"),
        ("d.tar.gz", "unpack it"),
        ("data-00000.arrow", "to_parquet"),
    ],
)
def test_files_that_are_no_source_are_refused_with_a_way_out(tmp_path: Path, name: str, way_out: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert way_out in refusal(tmp_path / name)
