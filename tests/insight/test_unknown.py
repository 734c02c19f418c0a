"""predict --unknown: images like those of training keep their label, others lose it, at the rate that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.cli.main import main
from raysearch.insight.index import Index
from raysearch.insight.unknown import Unknown
from raysearch.winner.best import load_best
from raysearch.winner.best_files import write_best
from raysearch.winner.shipment import Shipment
from tests.trained import CLASSES, RECIPE, classifier, picture, write_pictures


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("train", "val", "test")):
        write_pictures(tmp_path / "photos" / split, 12, first_seed=100 * number)
    write_best(tmp_path / "results/one/best", Shipment.of(classifier(), RECIPE), CLASSES, "abc", "")
    assert main(["embed", "--data", "photos", "--run", "one", "--out", "k.parquet"]) == 0


def test_what_is_like_nothing_has_no_label(capsys):
    Image.fromarray(picture("red", 777)).save("red.png")
    stripes = np.zeros((20, 24, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save("stripes.png")
    capsys.readouterr()
    given = ["predict", "one", "red.png", "stripes.png", "--unknown", "0.05", "--known", "k.parquet"]
    assert main([*given, "--json"]) == 0
    red, odd = json.loads(capsys.readouterr().out)
    assert (red["label"], red.get("unknown")) == ("red", None)
    assert (odd["label"], odd["unknown"]) == (None, True)
    assert main(given) == 0
    assert "stripes.png  unknown: " in capsys.readouterr().out
    assert main([*given, "--csv", "o.csv"]) == 0
    assert "o.csv  red 1, no label, unknown: 1" in capsys.readouterr().out


def test_false_alarms_are_as_many_as_asked_for():
    index, best = Index.read(Path("k.parquet")), load_best(Path("results/one"))
    test = index.vectors[index.splits == "test"]
    for rate, most in ((0.1, 3), (0.5, 18)):
        stranger = Unknown(index, best, rate, "cpu")
        alarms = int((stranger.distances(test) > stranger.limit).sum())
        assert 0 < alarms <= most


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--unknown", "0.05"], "--unknown RATE and --known INDEX go together"),
        (
            ["--unknown", "0.01", "--known", "k.parquet"],
            "--unknown 0.01 needs 99 test images in the index, which has 36",
        ),
        (["--unknown", "1", "--known", "k.parquet"], "--unknown must be in (0, 1), got 1.0"),
        (["--unknown", "0.05", "--known", "other.parquet"], "the index is not by this run's network"),
    ],
)
def test_what_is_refused(capsys, given, told):
    embed = ["embed", "--data", "photos", "--backbone", "simple_cnn", "--weights", "random", "--out", "other.parquet"]
    assert main(embed) == 0
    assert main(["predict", "one", "photos/test/red/000.png", *given]) == 2
    assert told in capsys.readouterr().err
