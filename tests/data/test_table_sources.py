"""Tables of images as other programs write them: dialects, encodings, columns of any name, ids instead of paths."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.data.listing import Listing
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.source import list_source
from raysearch.errors import InputError

Png = Callable[[int], bytes]
ROWS = [(f"{k:03}", "cat" if k % 2 else "dog") for k in range(12)]


@pytest.fixture
def images(tmp_path: Path, png: Png) -> Path:
    """Twelve PNGs, 000.png to 011.png, in img/."""
    folder = tmp_path / "img"
    folder.mkdir()
    for k in range(12):
        (folder / f"{k:03}.png").write_bytes(png(k))
    return folder


def table(folder: Path, header: str, row: Callable[[str, str], str], encoding: str = "utf-8") -> Path:
    file = folder / "list.csv"
    file.write_text("\n".join([header, *(row(name, label) for name, label in ROWS)]), encoding=encoding)
    return file


def labels_of(listing: Listing) -> dict[str, str]:
    """Class by the number in the image's name."""
    return {Path(path).stem: listing.classes[label] for path, label in zip(listing.paths, listing.labels, strict=True)}


def problems(source: Path, reading: Reading | None = None) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source), reading=reading or Reading())
    return "\n".join(caught.value.problems)


EXPECTED = dict(ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
def test_every_dialect_and_encoding(images: Path, mark: str, encoding: str) -> None:
    file = table(
        images.parent,
        mark.join(["path", "label", "note"]),
        lambda name, label: mark.join([f"img/{name}.png", label.replace("cat", "chaîne"), f'"ete{mark}, é"']),
        encoding,
    )
    listing = list_source(str(file))
    assert labels_of(listing) == {name: label.replace("cat", "chaîne") for name, label in ROWS}
    assert "the column note of" in listing.account.not_read[0]
    told = " ".join(doubt.what for doubt in listing.account.doubts)
    assert ("it was read as cp1252" in told) == (encoding == "cp1252")


def test_excels_line_before_the_table(images: Path) -> None:
    file = table(images.parent, "sep=|\npath|label", lambda name, label: f"img/{name}.png|{label}")
    assert labels_of(list_source(str(file))) == EXPECTED


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("filename", "class"),
        ("file", "category"),
        ("Image", "Diagnosis"),
        ("image_path", "target"),
        ("filepath", "species"),
        ("Image Name", "Class Name"),
        ("imageId", "label"),
        ("somewhere", "y"),  # known by its values
    ],
)
def test_columns_are_known_by_their_names(images: Path, path: str, label: str) -> None:
    file = table(images.parent, f"age,{path},{label}", lambda name, value: f"41,img/{name}.png,{value}")
    listing = list_source(str(file))
    assert labels_of(listing) == EXPECTED
    assert "age" in listing.account.not_read[0]


def test_columns_are_named(images: Path) -> None:
    splits = ["train", "train", "val", "val", "test", "test"] * 2
    file = images.parent / "list.csv"
    rows = [f"img/{name}.png,x,{label},{split}" for (name, label), split in zip(ROWS, splits, strict=True)]
    file.write_text("thing,label,kind,part\n" + "\n".join(rows))
    reading = Reading.of("path=thing, label=kind,split=part", None)
    listing = list_source(str(file), reading=reading)
    assert labels_of(listing) == EXPECTED
    assert list(listing.splits) == splits
    assert "the column label of" in listing.account.not_read[0]
    assert "--columns label=sort" in problems(file, Reading.of("path=thing,label=sort", None))


def test_a_column_of_yes_and_no_says_the_validation_images(images: Path) -> None:
    file = images.parent / "list.csv"
    rows = [f"img/{name}.png,{label},{k >= 8}" for k, (name, label) in enumerate(ROWS)]
    file.write_text("name,label,is_valid\n" + "\n".join(rows))
    listing = list_source(str(file))
    assert [str(split) for split in listing.splits[8:]] == ["val"] * 4
    assert "val" not in listing.splits[:8]


@pytest.mark.parametrize(
    "text", ["", "label", "file=a", "label=", "label=a,label=b", "path"], ids=["empty", "a", "b", "c", "d", "e"]
)
def test_columns_that_are_not_written_so_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--columns .*path=file,label=class"):
        Reading.of(text, None)


def test_ids_without_an_ending_beside_a_folder_of_images(images: Path) -> None:
    """Kaggle's form: labels.csv beside train/ and test/."""
    file = table(images.parent, "id,breed", lambda name, label: f"{name},{label}")
    assert f"--images {images}" in problems(file)
    listing = list_source(str(file), reading=Reading.of(None, images))
    assert labels_of(listing) == EXPECTED
    assert listing.reader.read(3) == (images / "003.png").read_bytes()
    assert len(load(str(file), progress=False, reading=Reading.of(None, images)).train) == 8


def test_ids_are_found_below_the_folder_and_refused_where_two_are(images: Path) -> None:
    (images / "part_1").mkdir()
    for k in range(6):
        (images / f"{k:03}.png").rename(images / "part_1" / f"{k:03}.png")
    file = table(images.parent, "image_id,dx", lambda name, label: f"{name},{label}")
    assert labels_of(list_source(str(file), reading=Reading.of(None, images))) == EXPECTED
    (images / "part_2").mkdir()
    (images / "part_2" / "004.png").write_bytes(b"another")
    assert "004 as part_1/004.png, part_2/004.png" in problems(file, Reading.of(None, images))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--images .*nowhere is no folder"):
        Reading.of(None, tmp_path / "nowhere")


def test_what_is_said_of_a_table_is_refused_where_there_is_none(images: Path) -> None:
    for name in ("cat", "dog"):
        (images / name).mkdir()
        for k in range(5):
            (images / name / f"{k}.png").write_bytes((images / f"{k:03}.png").read_bytes())
    assert "has no table of images" in problems(images, Reading.of("label=x", None))
    assert "has no table of images" in problems(Path("cifar10-mini"), Reading.of(None, images))


def test_several_columns_that_may_be_the_class(images: Path) -> None:
    """Numbers and their names say the same, so the names are taken; two that differ are asked about."""
    file = images.parent / "list.csv"
    rows = [f"img/{name}.png,{int(label == 'dog')},{label},{k % 3}" for k, (name, label) in enumerate(ROWS)]
    file.write_text("file,class_id,species,x\n" + "\n".join(rows))
    assert labels_of(list_source(str(file))) == EXPECTED
    file.write_text("file,class_id,species,grade\n" + "\n".join(rows))
    assert "3 columns that may be the class: species, class_id, grade" in problems(file)
    assert "--columns label=species" in problems(file)


def test_one_column_a_class(images: Path) -> None:
    """ISIC's form: a single 1 in each row; where there are more, it is multi-label."""
    file = images.parent / "list.csv"
    rows = [f"img/{name}.png,{float(label == 'cat')},{float(label == 'dog')}" for name, label in ROWS]
    file.write_text("image,cat,dog\n" + "\n".join(rows))
    assert labels_of(list_source(str(file))) == EXPECTED
    file.write_text("image,cat,dog\n" + "\n".join([*rows[:-1], "img/011.png,1,1"]))
    found = problems(file)
    assert "looks multi-label: the columns cat, dog" in found
    assert "1 rows have not a single 1" in found


def test_a_table_without_names_of_columns(images: Path) -> None:
    file = images.parent / "list.csv"
    file.write_text("\n".join(f"img/{name}.png,{label}" for name, label in ROWS))
    assert "its first line is that of an image (img/000.png,dog)" in problems(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,label\nimg/000.png,a,b\n", "two columns called label"),
        ("path,label\nimg/000.png,a\nimg/001.png,a,b\n", "the first of them row 3"),
        ("path,label\nimg/000.png,\"['a', 'b']\"\nimg/001.png,b\n", "multi-label"),
    ],
)
def test_bad_tables(images: Path, text: str, message: str) -> None:
    (images.parent / "list.csv").write_text(text)
    assert message in problems(images.parent / "list.csv")


def test_lines_of_json(images: Path) -> None:
    file = images.parent / "list.jsonl"
    rows = [{"image": f"img/{name}.png", "label": label, "box": [1, 2]} for name, label in ROWS]
    file.write_text("\n".join(map(json.dumps, rows)))
    listing = list_source(str(file))
    assert labels_of(listing) == EXPECTED
    assert "box" in listing.account.not_read[0]
    file.write_text(json.dumps(rows[0]) + "\n[1]\n")
    assert "line 2 is no JSON object" in problems(file)
    file.write_text("{")
    assert "cannot be read as JSON" in problems(file)


def test_names_in_the_bytes_of_another_encoding(images: Path) -> None:
    """A list and its files from one Windows machine: both in cp1252, on a file system of bytes."""
    for k in range(12):
        (images / f"{k:03}.png").rename(os.fsdecode(os.fsencode(images) + f"/é{k:03}.png".encode("cp1252")))
    file = table(images.parent, "path,label", lambda name, label: f"img/é{name}.png,{label}", "cp1252")
    assert len(list_source(str(file))) == 12


def imagefolder(root: Path, png: Png, folders: dict[str, int], ending: str) -> Path:
    """Hugging Face's form: a metadata file in each folder, which lists that folder's images."""
    number = 0
    for name, count in folders.items():
        inside = root / name
        (inside / "pictures").mkdir(parents=True)
        rows = []
        for _ in range(count):
            (inside / "pictures" / f"{number:03}.png").write_bytes(png(number))
            rows.append({"file_name": f"pictures/{number:03}.png", "label": "cat" if number % 2 else "dog", "age": 3})
            number += 1
        if ending == ".csv":
            lines = ["file_name,label,age", *(",".join(map(str, row.values())) for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        (inside / f"metadata{ending}").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_an_imagefolder_with_metadata(tmp_path: Path, png: Png, ending: str) -> None:
    root = imagefolder(tmp_path / "x", png, {"train": 8, "validation": 4, "test": 6}, ending)
    listing = list_source(str(root))
    assert listing.counts() == {
        "train": {"cat": 4, "dog": 4}, "val": {"cat": 2, "dog": 2}, "test": {"cat": 3, "dog": 3}
    }  # fmt: skip
    assert all(("cat" if int(name) % 2 else "dog") == label for name, label in labels_of(listing).items())
    assert "age" in listing.account.not_read[0]
    (root / "train" / "pictures" / "extra.png").write_bytes(png(99))
    (tally,) = list_source(str(root)).account.passed_over
    assert (tally.what, tally.examples) == ("images that the metadata do not list", ("train/pictures/extra.png",))


def test_metadata_at_the_top_and_splits_in_the_paths(tmp_path: Path, png: Png) -> None:
    root = imagefolder(tmp_path / "x", png, {"train": 8, "test": 6}, ".csv")
    lines = ["file_name,label"]
    for split in ("train", "test"):
        file = root / split / "metadata.csv"
        lines += [f"{split}/" + line.rpartition(",")[0] for line in file.read_text().splitlines()[1:]]
        file.unlink()
    (root / "metadata.csv").write_text("\n".join(lines))
    listing = list_source(str(root))
    assert int((listing.splits == "test").sum()) == 6
    assert all(path.startswith("test/") == (split == "test") for path, split in zip(listing.paths, listing.splits))  # noqa: B905
    (root / "test" / "pictures" / "008.png").unlink()
    assert "lists 1 files that are not there: test/pictures/008.png" in problems(root)


def test_metadata_that_say_no_class_leave_it_to_the_folders(tmp_path: Path, png: Png) -> None:
    for k in range(12):
        file = tmp_path / "x" / ROWS[k][1] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(k))
    (tmp_path / "x" / "metadata.csv").write_text("file_name,text\ncat/1.png,a cat\n")
    listing = list_source(str(tmp_path / "x"))
    assert listing.classes == ("cat", "dog")
    assert "metadata.csv, which says no class" in listing.account.not_read
