"""raysearch augment: the pixels of a search's views, in class folders, the same ones however often it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.cli.main import main
from raysearch.data.augment import Augmenter
from raysearch.data.pixels import load
from raysearch.data.source import list_source
from raysearch.recipe import Augmentation
from tests.insight.photos import splits

ASKED = ["augment", "--data", "photos", "--out", "a", "--copies", "2", "--strength", "0.75", "--seed", "5"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    splits(tmp_path / "photos")


def _files() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(Path("a").rglob("*")) if path.is_file()}


def test_copies_are_the_views_of_a_search(capsys):
    assert main(ASKED) == 0
    assert f"{3 * 12 * 3 + 3 * 8} files written" in capsys.readouterr().out
    dataset = load("photos", seed=5, progress=False)
    views = Augmenter(Augmentation(), 0.75, 5)
    place = 17
    label = dataset.classes[dataset.train.labels[place]]
    stem = f"a/train/{label}/{place:06d}-{Path(dataset.train.paths[place]).stem}"
    seen = [np.asarray(Image.open(f"{stem}{view}.png")) for view in ("", "-view1", "-view2")]
    pixels, index = np.asarray(dataset.train.pixels[[place]]), np.array([place])
    assert (seen[0] == pixels[0]).all()
    for view in (0, 1):
        assert (seen[view + 1] == views(pixels, index, view)[0]).all()
    assert (seen[1] != seen[2]).any()


def test_what_is_written_is_a_source():
    assert main(ASKED) == 0
    listing = list_source("a")
    assert listing.classes == ("blue", "green", "red")
    assert {split: sum(counts.values()) for split, counts in listing.counts().items()} == {
        "train": 108, "val": 12, "test": 12,
    }  # fmt: skip


def test_it_goes_on_where_it_was_stopped(capsys):
    assert main(ASKED) == 0
    whole = _files()
    for path in list(whole)[4::7]:
        if "/train/" in path:
            Path(path).unlink()
    kept = {path: Path(path).stat().st_mtime_ns for path in whole if "/train/" in path and Path(path).exists()}
    assert main(ASKED) == 0
    assert _files() == whole
    assert all(Path(path).stat().st_mtime_ns == time for path, time in kept.items())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--copies", "0", "--strength", "2"], "--copies must be at least 1, got 0"),
        (["--strength", "0.5"], "strength was 0.75 and is 0.5"),
        (["--image-size", "16"], "holds copies made otherwise (the images)"),
        (["--out", "photos"], "--out photos is not empty"),
    ],
)
def test_what_is_refused(capsys, given, told):
    assert main(ASKED) == 0
    assert main([*ASKED, *given]) == 2
    assert told in capsys.readouterr().err
