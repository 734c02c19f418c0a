"""Tables and arrays of labelled images: what is read of them, what is not, and which column says the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysearch.data.listing import Listing
from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill


def table(tmp_path: Path, header: str, *columns: list[str], labels: list[str] | None = None) -> Path:
    """A manifest of twelve images with these columns beside path and label."""
    root = fill(tmp_path, {"img": 12})
    labels = labels or [("cat", "dog")[n % 2] for n in range(12)]
    rows = [",".join([f"img/{n:03}.png", labels[n], *(column[n] for column in columns)]) for n in range(12)]
    (root / "list.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return root / "list.csv"


def totals(listing: Listing) -> dict[str, int]:
    return {split: sum(found.values()) for split, found in listing.counts().items()}


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source))
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("is_valid", ["False"] * 8 + ["True"] * 4, {"val": 4}),
        ("is_test", ["0"] * 8 + ["1"] * 4, {"test": 4}),
        ("subset", ["training"] * 8 + ["testing"] * 4, {"test": 4}),
        ("set", ["train"] * 6 + ["Valid"] * 2 + ["TEST"] * 4, {"train": 6, "val": 2, "test": 4}),
        ("whatever", ["train_set"] * 8 + ["test set"] * 4, {"test": 4}),
    ],
)
def test_a_column_that_says_the_split_is_used(
    tmp_path: Path, name: str, values: list[str], expected: dict[str, int]
) -> None:
    """Case 11."""
    listing = list_source(str(table(tmp_path, f"path,label,{name}", values)))
    assert expected.items() <= totals(listing).items()
    assert f"The column {name} says the splits." in listing.account.notes


def test_a_column_that_may_say_the_split_is_asked_about(tmp_path: Path) -> None:
    said = refusal(table(tmp_path, "path,label,fold", [str(n % 4) for n in range(12)]))
    assert "the column fold (0, 1, 2 and 1 more) looks like a split" in said
    assert "x_fold" in said
    both = (["train"] * 8 + ["test"] * 4, ["train"] * 6 + ["test"] * 6)
    assert "2 columns that say a split: subset, phase" in refusal(table(tmp_path, "path,label,subset,phase", *both))


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    listing = list_source(str(table(tmp_path, "path,label,age,site", ["3"] * 12, ["x"] * 12)))
    assert listing.account.not_read == ("the columns age, site of list.csv",)


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "null"])
def test_labels_that_a_program_wrote_for_none_are_named(tmp_path: Path, missing: str) -> None:
    """Case 31."""
    labels = [(missing, "dog")[n % 2] for n in range(12)]
    listing = list_source(str(table(tmp_path, "path,label", labels=labels)))
    assert set(listing.classes) == {missing, "dog"}
    assert f"the class {missing!r} (6 images)" in listing.account.doubts[0].what


def test_paths_of_windows_are_found(tmp_path: Path) -> None:
    """Case 29."""
    file = table(tmp_path, "path,label")
    file.write_text(file.read_text().replace("img/", ".\\img\\"))
    listing = list_source(str(file))
    assert len(listing) == 12
    assert listing.paths[0] == ".\\img\\000.png", "it is shown as it stands there"
    assert listing.reader.read(0) == (tmp_path / "img/000.png").read_bytes()


def test_one_image_by_two_paths_is_found(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label")
    file.write_text(file.read_text() + "\n./img/000.png,cat")
    assert "lists 1 images more than once" in refusal(file)


def images(n: int, start: int = 0) -> np.ndarray:
    return np.random.default_rng(start).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("style", ["{}_images {}_labels", "x_{} y_{}", "{}_x {}_y", "images_{} labels_{}", "X_{} Y_{}"])
@pytest.mark.parametrize(
    ("word", "split"), [("valid", "val"), ("validation", "val"), ("dev", "val"), ("testing", "test")]
)
def test_arrays_of_other_spellings_are_read(tmp_path: Path, style: str, word: str, split: str) -> None:
    """Case 10."""
    parts = {"train": 8, word: 4}
    arrays = {}
    for number, (name, n) in enumerate(parts.items()):
        first, second = style.split()
        arrays |= {first.format(name): images(n, number), second.format(name): np.arange(n) % 2}
    np.savez(tmp_path / "a.npz", **arrays, train_ages=np.arange(8), notes=np.array(["x"]))
    listing = list_source(str(tmp_path / "a.npz"))
    assert totals(listing)[split] == 4
    assert listing.account.not_read == ("the arrays train_ages, notes of a.npz",)


def test_two_arrays_for_one_split_are_refused(tmp_path: Path) -> None:
    arrays = {f"{word}_{what}": images(4) for word in ("train", "val", "valid") for what in ("images", "labels")}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "val_images and valid_images, which are both val_images" in refusal(tmp_path / "a.npz")
