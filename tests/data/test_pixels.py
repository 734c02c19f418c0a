"""Decoded once, kept by content, mapped by every process; damaged images are recorded, not fatal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from raysearch.data import decoding
from raysearch.data.dataset import Dataset
from raysearch.data.decode import decode
from raysearch.data.pixels import load
from raysearch.errors import InputError

MakeFolder = Callable[[dict[str, int]], Path]


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "decode", refuse)


def test_what_is_mapped_is_what_decode_gives(folder: MakeFolder) -> None:
    root = folder({"cat": 10, "dog": 10})
    data = load(str(root), image_size=16, progress=False)
    assert data.classes == ("cat", "dog")
    assert data.source == str(root)
    seen: list[str] = []
    for split in (data.train, data.val, data.test):
        assert isinstance(split.pixels, np.memmap)
        assert split.pixels.shape == (len(split), 16, 16, 3)
        assert not split.pixels.flags.writeable
        for pixels, label, path in zip(split.pixels, split.labels, split.paths, strict=True):
            assert path.startswith(data.classes[label])
            np.testing.assert_array_equal(pixels, decode((root / path).read_bytes(), 16, "squash"))
        seen += split.paths
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 20


def test_a_second_run_decodes_nothing(folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder({"cat": 10, "dog": 10})
    first = load(str(root), progress=False)
    forbid_decoding(monkeypatch)
    second = load(str(root), progress=False)
    assert second.fingerprint == first.fingerprint
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.train.pixels, first.train.pixels)


def test_the_key_is_content_and_not_place(folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder({"cat": 10, "dog": 10})
    first = load(str(root), progress=False)
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        forbid_decoding(patch)
        assert load(str(moved), progress=False).fingerprint == first.fingerprint
    (moved / "cat" / "000.png").write_bytes((moved / "dog" / "000.png").read_bytes())
    assert load(str(moved), progress=False).fingerprint != first.fingerprint


@pytest.mark.parametrize("change", [{"image_size": 20}, {"fit": "crop"}, {"seed": 1}])
def test_settings_are_part_of_the_key(folder: MakeFolder, change: dict[str, object]) -> None:
    root = str(folder({"cat": 10, "dog": 10}))
    settings: dict[str, object] = {"image_size": 16, "fit": "squash", "seed": 0}
    prints = {load(root, progress=False, **given).fingerprint for given in (settings, settings | change)}  # type: ignore[arg-type]
    assert len(prints) == 2


def test_unreadable_images_are_left_out_and_recorded(folder: MakeFolder) -> None:
    root = folder({"cat": 20, "dog": 20})
    (root / "cat" / "007.png").write_bytes(b"damaged")
    data = load(str(root), progress=False)
    assert [one.path for one in data.skipped] == ["cat/007.png"]
    assert "UnidentifiedImageError" in data.skipped[0].reason
    assert len(data.train) + len(data.val) + len(data.test) == 39
    for split in (data.train, data.val, data.test):
        assert "cat/007.png" not in split.paths
        assert len(split.pixels) == len(split.labels) == len(split.paths)
        for pixels, path in zip(split.pixels, split.paths, strict=True):
            np.testing.assert_array_equal(pixels, decode((root / path).read_bytes(), 32, "squash"))


def test_many_unreadable_images_are_an_error_and_leave_nothing(folder: MakeFolder, cache: Path) -> None:
    root = folder({"cat": 20, "dog": 4})
    for file in (root / "dog").iterdir():
        file.write_bytes(b"damaged")
    with pytest.raises(InputError) as caught:
        load(str(root), progress=False)
    message = "\n".join(caught.value.problems)
    assert "4 of 24 images" in message
    assert "no image of dog in val" in message
    assert [path.suffix for path in (cache / "pixels").iterdir()] == [".lock"]


def test_open_gives_what_load_gave(folder: MakeFolder) -> None:
    data = load(str(folder({"cat": 10, "dog": 10})), progress=False)
    again = Dataset.open(data.folder)
    assert (again.classes, again.fingerprint, again.test.paths) == (data.classes, data.fingerprint, data.test.paths)
    with pytest.raises(InputError, match="does not hold decoded images"):
        Dataset.open(data.folder / "nothing")


def test_leftovers_of_a_killed_run_do_no_harm(folder: MakeFolder) -> None:
    root = str(folder({"cat": 10, "dog": 10}))
    data = load(root, progress=False)
    before = np.array(data.train.pixels)
    half_done = data.folder.with_name(f".{data.folder.name}.tmp")
    shutil.copytree(data.folder, half_done)
    shutil.rmtree(data.folder)
    np.testing.assert_array_equal(load(root, progress=False).train.pixels, before)
    assert not half_done.exists()


def _load_fingerprint(source: str) -> str:
    return load(source, progress=False).fingerprint


def test_two_processes_may_load_at_once(folder: MakeFolder) -> None:
    root = str(folder({"cat": 30, "dog": 30}))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert len(set(pool.map(_load_fingerprint, [root] * 2))) == 1


def test_the_natural_size_is_the_median_shorter_side_in_bounds(tmp_path: Path) -> None:
    for side, expected in ((20, 32), (50, 50), (300, 224)):
        images = np.random.default_rng(0).integers(0, 256, (12, side, side + 10), dtype=np.uint8)
        np.savez(tmp_path / f"{side}.npz", train_images=images, train_labels=np.arange(12) % 2)
        assert load(str(tmp_path / f"{side}.npz"), progress=False).image_size == expected


@pytest.mark.parametrize("size", [0, -3, 7, 100_000])
def test_bad_settings_and_a_bad_source_come_together(size: int) -> None:
    with pytest.raises(InputError) as caught:
        load("nowhere", image_size=size, fit="stretch", progress=False)
    assert len(caught.value.problems) == 3


def test_a_cache_that_cannot_be_written_is_said(folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        load(str(folder({"cat": 5, "dog": 5})), cache=tmp_path / "file", progress=False)
