"""Every kind of SOURCE is listed, and every bad one is refused with its problems together."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.errors import InputError

MakeFolder = Callable[[dict[str, int]], Path]
THREE = {f"{split}/{name}": n for split, n in (("train", 6), ("val", 2), ("test", 3)) for name in ("cat", "dog")}


def totals(listing: Listing) -> dict[str, int]:
    return {split: sum(classes.values()) for split, classes in listing.counts().items()}


def problems(source: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


def test_a_folder_with_splits(folder: MakeFolder) -> None:
    listing = list_source(str(folder(THREE)))
    assert listing.classes == ("cat", "dog")
    assert totals(listing) == {"train": 12, "val": 4, "test": 6}
    for path, label, split in zip(listing.paths, listing.labels, listing.splits, strict=True):
        assert path.startswith(f"{split}/{listing.classes[label]}/")


def test_class_folders_alone_are_split_in_three(folder: MakeFolder) -> None:
    listing = list_source(str(folder({"cat": 20, "dog": 40})))
    assert listing.counts() == {
        "train": {"cat": 14, "dog": 28}, "val": {"cat": 3, "dog": 6}, "test": {"cat": 3, "dog": 6}
    }  # fmt: skip


def test_a_missing_val_is_taken_from_train_alone(folder: MakeFolder) -> None:
    listing = list_source(str(folder({"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})))
    assert totals(listing) == {"train": 16, "val": 4, "test": 6}
    assert all(path.startswith("test/") == (split == "test") for path, split in zip(listing.paths, listing.splits))  # noqa: B905


def test_a_zip_is_the_folder_wrapped_or_not(folder: MakeFolder, tmp_path: Path) -> None:
    root = folder(THREE)
    plain = shutil.make_archive(str(tmp_path / "plain"), "zip", root)
    wrapped = shutil.make_archive(str(tmp_path / "wrapped"), "zip", root.parent, root.name)
    listing = list_source(str(root))
    for archive in (plain, wrapped):
        other = list_source(archive)
        assert other.counts() == listing.counts()
        assert [other.reader.read(k) for k in range(len(other))] == [
            listing.reader.read(k) for k in range(len(listing))
        ]


def test_hidden_and_other_files_are_passed_over_and_strays_recorded(folder: MakeFolder) -> None:
    root = folder({"cat": 5, "dog": 5})
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_text("no image")
    (root / "overview.png").write_text("an image of no class")
    listing = list_source(str(root))
    assert len(listing) == 10
    assert [one.path for one in listing.skipped] == ["overview.png"]


def test_a_manifest_with_and_without_splits(folder: MakeFolder) -> None:
    root = folder({"a": 12})
    lines = [f"a/{k:03}.png,{'cat' if k % 2 else 'dog'}" for k in range(12)]
    manifest = root / "list.csv"
    manifest.write_text("path,label\n" + "\n".join(lines))
    assert totals(list_source(str(manifest))) == {"train": 8, "val": 2, "test": 2}
    names = ["train", "train", "val", "val", "test", "test"] * 2
    manifest.write_text("path,label,split\n" + "\n".join(f"{a},{b}" for a, b in zip(lines, names, strict=True)))
    assert totals(list_source(str(manifest))) == {"train": 4, "val": 4, "test": 4}


def arrays(**changes: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {
        f"{split}_{what}": value
        for split in ("train", "val", "test")
        for what, value in (
            ("images", rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)),
            ("labels", np.arange(6, dtype=np.uint8)[:, None] % 2),
        )
    }
    return {name: value for name, value in (made | changes).items() if value is not None}  # type: ignore[misc]


def test_a_medmnist_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    listing = list_source(str(tmp_path / "a.npz"))
    assert listing.classes == ("0", "1")
    assert totals(listing) == {"train": 6, "val": 6, "test": 6}
    np.testing.assert_array_equal(listing.reader.read(13), arrays()["test_images"][1])


def test_class_names_and_missing_splits_of_an_npz(tmp_path: Path) -> None:
    only_train = {f"{split}_{what}": None for split in ("val", "test") for what in ("images", "labels")}
    np.savez(tmp_path / "a.npz", **arrays(class_names=np.array(["well", "ill"]), **only_train))
    listing = list_source(str(tmp_path / "a.npz"))
    assert listing.classes == ("well", "ill")
    assert totals(listing) == {"train": 2, "val": 2, "test": 2}


def test_the_bundled_images() -> None:
    listing = list_source("cifar10-mini")
    assert len(listing.classes) == 10
    assert totals(listing) == {"train": 1500, "val": 500, "test": 1000}


def test_a_torchvision_set_that_is_in_the_cache(cache: Path) -> None:
    """Files in torchvision's own layout and format, read by torchvision's own code."""
    raw = cache / "torchvision" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, n in (("train", 20), ("t10k", 10)):
        header = struct.pack(">HBBIII", 0, 8, 3, n, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + bytes(range(n)) * 784)
        labels = bytes(k % 10 for k in range(n))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, n) + labels)
    listing = list_source("FashionMNIST")
    assert listing.classes[:2] == ("T-shirt/top", "Trouser")
    assert totals(listing) == {"train": 10, "val": 10, "test": 10}
    assert listing.reader.read(0).size == (28, 28)  # type: ignore[union-attr]


def test_a_torchvision_set_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    message = problems("cifar10")
    assert "CIFAR10" in message
    assert "could not be downloaded" in message
    assert "folder" in message


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cat": 9}, "only the class cat"),
        ({"cat": 9, "dog": 2}, r"dog (2) has fewer images than the 3 splits"),
        ({"cat": 9, "cow": 1, "dog": 2}, r"cow (1), dog (2) have fewer images than the 3 splits"),
        ({"cat": 9, "dog": 0}, "class folders without images: dog"),
        ({"train/cat": 9, "test/dog": 9, "test/cat": 9}, "only test has dog"),
        ({"test/dog": 9, "test/cat": 9}, "no training images"),
        ({"train/cat": 9, "train/dog": 9, "bird": 9}, "beside its train, val or test folders: bird"),
        ({".": 9}, "no class folders"),
    ],
)
def test_bad_folders(folder: MakeFolder, counts: dict[str, int], message: str) -> None:
    if "." in counts:
        root = folder({"x": counts["."]})
        message_of = problems(root / "x")
    else:
        message_of = problems(folder(counts))
    assert message in message_of


def test_a_class_that_test_lacks_is_said_to_be_missing(folder: MakeFolder) -> None:
    listing = list_source(str(folder({"train/cat": 9, "train/dog": 9, "test/cat": 9})))
    assert listing.counts()["test"] == {"cat": 9, "dog": 0}
    assert any("test lacks dog: nothing is known" in doubt.what for doubt in listing.account.doubts)


def test_several_problems_come_together(folder: MakeFolder) -> None:
    root = folder({"train/cat": 9, "train/dog": 1, "test/cat": 3, "test/bird": 3})
    message = problems(root)
    assert "only test has bird" in message
    assert "dog (1) has fewer images than the 2 splits" in message


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["lacks the columns path and label"]),
        ("thing,label\na,b\n", ["lacks the column path", "thing,label", "--columns path=NAME"]),
        ("path,label\n", ["lists no images"]),
        ("path,label\nx/000.png,cat\nx/001.png,\nnone.png,dog\n", ["1 images have no label", "not there: none.png"]),
        ("path,label,split\nx/000.png,cat,train\nx/001.png,dog,later\n", ["must be train, val or test, got later"]),
        ("path,label\nx/000.png,0.25\nx/001.png,0.5\n", ["regression", "0.25"]),
        ("path,label\nx/000.png,cat|dog\nx/001.png,dog\n", ["multi-label", "cat|dog"]),
        ("path,label\nx/000.png,cat\nx/000.png,dog\n", ["multi-label", "x/000.png"]),
        ("path,label\nx/000.png,cat\nx/000.png,cat\n", ["more than once: x/000.png"]),
    ],
)
def test_bad_manifests(folder: MakeFolder, text: str, messages: list[str]) -> None:
    root = folder({"x": 3})
    (root / "list.csv").write_text(text)
    found = problems(root / "list.csv")
    assert all(message in found for message in messages), found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None, "train_labels": None}, "must hold train_images"),
        ({"val_labels": None}, "val_labels is missing"),
        ({"train_labels": np.zeros((6, 14))}, "multi-label, shape (6, 14)"),
        ({"train_labels": np.linspace(0, 1, 6)}, "regression"),
        ({"train_labels": np.zeros(6, np.complex64)}, "must be numbers"),
        ({"train_labels": np.array(["a", "b", "", "a", "b", "a"])}, "1 empty labels"),
        ({"train_labels": -np.arange(6)}, "from 0, got -5"),
        ({"train_labels": np.zeros(5, int)}, "6 images but 5 labels"),
        ({"train_images": np.zeros((6, 8, 8, 8), np.uint8)}, "volumes"),
        ({"train_images": np.zeros((6, 8, 8), np.complex64)}, "got complex64"),
        ({"train_images": np.array([None] * 6)}, "plain arrays"),
        ({"class_names": np.array(["one"])}, "1 names but labels go up to 1"),
    ],
)
def test_bad_arrays(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    assert message in problems(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.zip", "a.npz"])
def test_damaged_archives(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK not really")
    assert "cannot be read" in problems(tmp_path / name)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    assert "Did you mean cifar10-mini?" in problems("cifar10-min")
    assert "no folder, no file and no known name" in problems(tmp_path / "nothing")
    assert "is empty" in problems("")
    (tmp_path / "void").mkdir()
    assert "holds no images" in problems(tmp_path / "void")
    (tmp_path / "notes.txt").write_text("")
    assert "no known kind" in problems(tmp_path / "notes.txt")
