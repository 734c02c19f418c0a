"""WebDataset shards and parquet files: read from where the images lie, with what they say of classes and splits."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raysearch.data.listing import Listing
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.data.shards import expand, splits_of
from raysearch.data.source import list_source
from raysearch.errors import InputError
from tests.data.pictures import fill

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Png = Callable[[int], bytes]


def problems(source: Path | str, reading: Reading | None = None) -> str:
    with pytest.raises(InputError) as caught:
        list_source(str(source), reading=reading or Reading())
    return "\n".join(caught.value.problems)


def totals(listing: Listing) -> dict[str, int]:
    return {split: sum(classes.values()) for split, classes in listing.counts().items()}


def write_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as opened:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return file


def shard(file: Path, png: Png, numbers: range, told: Callable[[int], dict[str, bytes]]) -> Path:
    """A shard of images k.png, with what `told` gives beside each, by ending."""
    members: dict[str, bytes] = {}
    for k in numbers:
        members |= {f"{k:06}.png": png(k), **{f"{k:06}{ending}": data for ending, data in told(k).items()}}
    return write_tar(file, members)


def cls(k: int) -> dict[str, bytes]:
    return {".cls": str(k % 2).encode()}


def test_a_folder_of_shards_is_split_by_their_names(tmp_path: Path, png: Png) -> None:
    for name, numbers in (
        ("imagenet-train-000000.tar", range(6)),
        ("imagenet-train-000001.tar", range(6, 12)),
        ("imagenet-val-000000.tar", range(12, 16)),
        ("test/000000.tar", range(16, 22)),
    ):
        shard(tmp_path / "x" / name, png, numbers, cls)
    listing = list_source(str(tmp_path / "x"))
    assert totals(listing) == {"train": 12, "val": 4, "test": 6}
    assert listing.classes == ("0", "1")
    for row, path in enumerate(listing.paths):
        number = int(Path(path).stem)
        assert listing.labels[row] == number % 2
        assert listing.reader.read(row) == png(number)
    assert "3 WebDataset shards" not in listing.account.reading
    assert "4 WebDataset shards" in listing.account.reading
    assert len(load(str(tmp_path / "x"), image_size=16, progress=False).train) == 12


def test_braces_and_wildcards(tmp_path: Path, png: Png) -> None:
    for k in range(3):
        shard(tmp_path / f"train-{k:04}.tar", png, range(6 * k, 6 * k + 6), cls)
    assert len(list_source(f"{tmp_path}/train-{{0000..0002}}.tar")) == 18
    assert len(list_source(f"{tmp_path}/train-{{0000,0002}}.tar")) == 12
    assert len(list_source(f"{tmp_path}/*-000[12].tar")) == 12
    assert "not there: " in problems(f"{tmp_path}/train-{{0000..0003}}.tar")
    assert "not there: " in problems(f"{tmp_path}/test-*.tar")
    names = [path.name for path in expand(f"{tmp_path}/{{train-0001,train-0000}}.tar")]
    assert names == ["train-0001.tar", "train-0000.tar"]


def test_the_class_in_a_json(tmp_path: Path, png: Png) -> None:
    def told(k: int) -> dict[str, bytes]:
        return {".json": json.dumps({"width": 10, "label": "cat" if k % 2 else "dog", "kind": k % 3}).encode()}

    file = shard(tmp_path / "a.tar", png, range(12), told)
    listing = list_source(str(file))
    assert [listing.classes[label] for label in listing.labels] == ["cat" if k % 2 else "dog" for k in range(12)]
    assert listing.account.not_read == ("the keys width, kind of the .json files",)
    other = list_source(str(file), reading=Reading.of("label=kind", None))
    assert other.classes == ("0", "1", "2")
    assert "no .json with that key, but width, label, kind" in problems(file, Reading.of("label=sort", None))


def test_what_has_no_label_is_passed_over_and_told(tmp_path: Path, png: Png) -> None:
    file = shard(tmp_path / "a.tar", png, range(12), lambda k: cls(k) if k else {".txt": b"a caption"})
    listing = list_source(str(file))
    assert len(listing) == 11
    tallies = {tally.what: tally.examples for tally in listing.account.passed_over}
    assert tallies["samples without a .cls or a .json that says the class"] == ("a.tar/000000",)
    assert ".txt files in shards" in tallies


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (lambda k: {".txt": b"a caption"}, "images but no labels"),
        (lambda k: {".json": b'{"sort": "a"}'}, "name the class by --columns label=KEY"),
        (lambda k: {".json": b'{"label": [0, 1]}'}, "multi-label"),
        (lambda k: {".cls": str(k / 7).encode()}, "regression"),
        (lambda k: {".jpg": b"another", **cls(k)}, "several images of one name"),
        (lambda k: {".json": b"{"}, "cannot be read"),
    ],
    ids=["captions", "other-key", "many", "fractions", "two-images", "damaged"],
)
def test_bad_shards(tmp_path: Path, png: Png, told: Callable[[int], dict[str, bytes]], message: str) -> None:
    assert message in problems(shard(tmp_path / "a.tar", png, range(6), told))


def test_a_packed_shard_and_no_shard(tmp_path: Path, png: Png) -> None:
    (tmp_path / "b.tar").write_bytes(b"no archive")
    assert "cannot be read as a .tar" in problems(tmp_path / "b.tar")
    file = write_tar(tmp_path / "c.tar", {"0.png": png(0), "0.cls": b"0"}, "w:gz")
    assert "unpack it to a plain .tar" in problems(file)


def test_names_that_say_splits() -> None:
    assert splits_of("x", ["train-00000-of-00002.parquet", "val/0.tar", "data-test.tar", "00001.tar"]) == [
        "train", "val", "test", "",
    ]  # fmt: skip
    assert splits_of("x", ["train.tar", "eval.tar"]) == ["train", "test"]
    assert splits_of("x", ["train.tar", "eval.tar", "test.tar"]) == ["train", "val", "test"]
    with pytest.raises(InputError, match=r"train-or-test.tar say more than one split"):
        splits_of("x", ["train-or-test.tar"])


def write_parquet(file: Path, columns: dict[str, Any], schema: Any = None, rows_a_group: int = 4) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), file, row_group_size=rows_a_group)
    return file


def hugging_face(file: Path, png: Png, numbers: range, names: tuple[str, ...] = ("well", "ill")) -> Path:
    """As `datasets` writes it: a struct of bytes and path, and class numbers whose names are in the metadata."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {"image": [{"bytes": png(k), "path": f"{k}.png"} for k in numbers], "label": [k % 2 for k in numbers]}
    return write_parquet(file, columns, schema)


def test_a_hugging_face_data_set(tmp_path: Path, png: Png) -> None:
    root = tmp_path / "x"
    hugging_face(root / "data" / "train-00000-of-00002.parquet", png, range(10))
    hugging_face(root / "data" / "train-00001-of-00002.parquet", png, range(10, 16))
    hugging_face(root / "data" / "test-00000-of-00001.parquet", png, range(16, 22))
    (root / "README.md").write_text("a card")
    listing = list_source(str(root))
    assert set(listing.classes) == {"well", "ill"}
    assert int((listing.splits == "test").sum()) == 6
    for row, path in enumerate(listing.paths):
        file, number = path.rpartition("/")[::2]
        k = int(number) + {"test-00000-of-00001.parquet": 16, "train-00001-of-00002.parquet": 10}.get(file, 0)
        assert listing.reader.read(row) == png(k)
        assert listing.classes[listing.labels[row]] == ("ill" if k % 2 else "well")


def test_bytes_beside_labels_and_splits(tmp_path: Path, png: Png) -> None:
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    columns = {
        "png": [png(k) for k in range(16)],
        "class": ["cat" if k % 2 else "dog" for k in range(16)],
        "subset": splits,
        "age": list(range(16)),
    }
    listing = list_source(str(write_parquet(tmp_path / "a.parquet", columns)))
    assert list(listing.splits) == splits
    assert listing.classes == ("cat", "dog")
    assert "age" in listing.account.not_read[0]
    data = load(str(tmp_path / "a.parquet"), image_size=16, progress=False)
    expected = np.asarray(Image.open(io.BytesIO(png(0))))[0, 0]
    assert np.array_equal(np.asarray(data.train.pixels[0])[8, 8], expected)


def test_rows_without_a_label_are_passed_over(tmp_path: Path, png: Png) -> None:
    """-1 is how `datasets` says that a test image has no label."""
    hugging_face(tmp_path / "x" / "train.parquet", png, range(16))
    table = pq.read_table(tmp_path / "x" / "train.parquet")
    hidden = table.set_column(1, "label", pa.array([-1] * 16, pa.int64()))
    hidden = hidden.replace_schema_metadata(table.schema.metadata)
    pq.write_table(hidden, tmp_path / "x" / "test.parquet")
    listing = list_source(str(tmp_path / "x"))
    assert len(listing) == 16
    (tally,) = listing.account.passed_over
    assert (tally.what, tally.count) == ("rows without a label", 16)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.png"] * 4, "label": [0, 1] * 2}, "no column of images"),
        ({"image": [b"x"] * 4, "label": [[0], [1], [0], [1]]}, "multi-label: label holds lists"),
        ({"image": [b"x"] * 4, "label": [0.1, 0.2, 0.3, 0.4]}, "regression"),
        ({"image": [b"x"] * 4, "sort": [0, 1] * 2}, "lacks the column label"),
        ({"a": [b"x"] * 4, "b": [b"x"] * 4, "label": [0, 1] * 2}, "--columns path=a"),
    ],
    ids=["paths", "lists", "fractions", "no-label", "two-images"],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    assert message in problems(write_parquet(tmp_path / "a.parquet", columns))


def test_a_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    assert "cannot be read as parquet" in problems(tmp_path / "a.parquet")


def test_a_parquet_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """Forty images of a megabyte in ten row groups: what Arrow holds stays far below the forty."""
    noise = np.random.default_rng(0).bytes(1 << 20)
    columns = {"image": [bytes([k]) + noise for k in range(40)], "label": [k % 2 for k in range(40)]}
    write_parquet(tmp_path / "a.parquet", columns)
    del columns
    before = pa.total_allocated_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysearch.data.parquet._HELD_BYTES", 4 << 20)
        listing = list_source(str(tmp_path / "a.parquet"))
        assert pa.total_allocated_bytes() - before < 1 << 20
        most = 0
        for row in range(40):
            assert listing.reader.read(row)[0] == row
            most = max(most, pa.total_allocated_bytes() - before)
    assert most < 24 << 20


def test_a_shard_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(1 << 20)
    members = {f"{k}.{end}": data for k in range(40) for end, data in (("png", noise), ("cls", b"%d" % (k % 2)))}
    file = write_tar(tmp_path / "a.tar", members)
    tracemalloc.start()
    try:
        listing = list_source(str(file))
        for row in range(40):
            assert listing.reader.read(row) == noise
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_pandas_writes_bytes_too(tmp_path: Path, png: Png) -> None:
    frame = pd.DataFrame({"image": [png(k) for k in range(12)], "label": ["a", "b"] * 6})
    frame.to_parquet(tmp_path / "a.parquet")
    assert list_source(str(tmp_path / "a.parquet")).classes == ("a", "b")


def test_a_table_of_parquet_beside_images_is_no_shard(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", {"train/cat": 6, "train/dog": 6, "test/cat": 2, "test/dog": 2})
    pd.DataFrame({"age": [1, 2]}).to_parquet(root / "patients.parquet")
    assert list_source(str(root)).classes == ("cat", "dog")
