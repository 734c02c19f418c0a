"""predict --unknown --known: an index of a run's own images stands for what its best/ does not have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.cli.main import main
from raysearch.insight.index import Index
from raysearch.insight.unknown import known_by_index
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
    assert (red["label"], red["unknown"]) == ("red", False)
    assert (odd["label"], odd["unknown"]) == ("unknown", True)


def test_false_alarms_are_as_many_as_asked_for():
    index, best = Index.read(Path("k.parquet")), load_best(Path("results/one"))
    test = index.vectors[index.splits == "test"]
    for rate, most in ((0.1, 3), (0.5, 18)):
        known = known_by_index(index, best)
        alarms = int((known.distances(test) > known.limit(rate)).sum())
        assert 0 < alarms <= most


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--unknown", "0.05"], "or name by --known what raysearch embed --data SOURCE --run RUN writes"),
        (
            ["--unknown", "0.01", "--known", "k.parquet"],
            "that needs 99 labelled images which the network was not trained on, and there are 36 (a group counts",
        ),
        (["--unknown", "1", "--known", "k.parquet"], "unknown 1: the share of false alarms must be between 0 and 1"),
        (["--unknown", "0.05", "--known", "other.parquet"], "the index is not by this run's network"),
    ],
)
def test_what_is_refused(capsys, given, told):
    embed = ["embed", "--data", "photos", "--backbone", "simple_cnn", "--weights", "random", "--out", "other.parquet"]
    assert main(embed) == 0
    assert main(["predict", "one", "photos/test/red/000.png", *given]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
