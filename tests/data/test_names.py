"""Names go through the intake as the person sees them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from raysearch.data.names import one_line, readable
from raysearch.data.pixels import Dataset, load
from raysearch.data.sheet import sheet
from raysearch.data.source import list_source
from raysearch.storage.files import json_text, replace_json, replace_text
from tests.data.pictures import fill, picture

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.skipif(os.name != "posix", reason="names are bytes there")
def test_bytes_that_are_no_utf8_are_escaped_and_found_again(tmp_path: Path) -> None:
    """Case 2: from a latin-1 archive."""
    root = os.fsencode(tmp_path / "d")
    for name in (b"caf\xe9", b"dog"):
        Path(os.fsdecode(root + b"/" + name)).mkdir(parents=True)
        for number in range(8):
            file = Path(os.fsdecode(root + b"/" + name + b"/\xe9t\xe9%d.png" % number))
            file.write_bytes(picture(number + len(name) * 10))
    listing = list_source(str(tmp_path / "d"))
    assert listing.classes == ("caf\\xe9", "dog")
    assert listing.paths[0] == "caf\\xe9/\\xe9t\\xe90.png"
    assert listing.reader.read(0) == picture(40)
    data = load(str(tmp_path / "d"), image_size=16, progress=False)
    for text in (*data.train.paths, *data.classes, json.dumps(data.account.as_json(), ensure_ascii=False)):
        text.encode("utf-8")
    found = data.test.paths[0].encode().decode("unicode_escape").encode("latin-1")
    assert Path(os.fsdecode(root + b"/" + found)).exists()


def test_a_source_whose_own_name_is_no_utf8(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    fill(root, {"cat": 8, "dog": 8})
    data = load(str(root), image_size=16, progress=False)
    assert len(data.train) == 12
    assert Dataset.open(data.folder).source == str(root)
    replace_json(tmp_path / "a.json", {"data": str(root), "class": "猫"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["data"] == str(root)
    replace_text(tmp_path / "a.html", f"<p>{root}</p>")
    assert "\\udce9" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_json_keeps_letters_as_they_are_where_it_can() -> None:
    assert json_text({"a": "猫"}) == '{"a": "猫"}'
    assert json.loads(json_text({"a": "\udce9"})) == {"a": "\udce9"}


@pytest.mark.parametrize(
    "name", ["猫", "q\"u'o,te;|", " blank ", "007", "true", "None", "nan", "a\nb", "[red]", "<b>", "-x"]
)
def test_any_name_is_a_class(tmp_path: Path, name: str) -> None:
    data = load(str(fill(tmp_path / "x", {name: 8, "other": 8})), image_size=16, progress=False)
    assert set(data.classes) == {name, "other"}
    sheet(data.train.pixels[:4], [data.classes[label] for label in data.train.labels[:4]])
    assert "\n" not in "".join(data.account.as_json()["lines"])


def test_numbers_keep_their_zeros_and_are_in_their_order(tmp_path: Path) -> None:
    assert list_source(str(fill(tmp_path / "x", {"007": 4, "10": 4, "9": 4}))).classes == ("007", "9", "10")


def test_two_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    counts = {f"train/{NFC}": 6, "train/dog": 6, f"test/{NFD}": 3, "test/dog": 3}
    listing = list_source(str(fill(tmp_path / "x", counts)))
    assert len(listing.classes) == 2
    assert listing.counts()["test"] == dict.fromkeys(listing.classes, 3)


def test_a_class_of_test_that_is_spelt_nearly_so_is_taken_for_it(tmp_path: Path) -> None:
    counts = {"train/Cat": 6, "train/big dog": 6, "test/cat": 3, "test/big_dog": 3}
    listing = list_source(str(fill(tmp_path / "x", counts)))
    assert listing.classes == ("Cat", "big dog")
    assert listing.counts()["test"] == {"Cat": 3, "big dog": 3}
    assert "'cat' in test is taken for the class 'Cat' of train" in [doubt.what for doubt in listing.account.doubts][1]


def test_classes_that_hardly_differ_are_named(tmp_path: Path) -> None:
    listing = list_source(str(fill(tmp_path / "x", {"Cat": 6, "cat ": 6, "dog": 6})))
    assert len(listing.classes) == 3
    assert "'Cat' and 'cat ' differ in hardly more" in listing.account.doubts[0].what


def test_lines_of_output_stay_lines() -> None:
    assert one_line("a\nb\x1b[31m\u2028é") == "a\\nb\\x1b[31m\\u2028é"
    assert readable("a\nb猫") == "a\nb猫"
    assert one_line("\udce9") == "\\xe9"
