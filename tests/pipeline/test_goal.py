"""A whole search with bounds that are kept and missed, losses for rare classes, groups, and a part of the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raysearch.cli.main import main as raysearch
from raysearch.data.groups import names_in_paths
from raysearch.data.pixels import load
from raysearch.data.reading import Reading
from raysearch.intervals import effective_number
from raysearch.pipeline import learning_curve
from raysearch.record.folder import RunFolder
from raysearch.training.stratified import stratified_folds
from raysearch.tune import main as tune
from tests.data.pictures import picture, put
from tests.full_disk import full_disk
from tests.in_process import without_ray

SPACE = """
from ray import tune
from raysearch.space import Search

space = {
    "schedule": [
        {"depth": 0, "epochs": 2, "loss": "focal", "class_weights": "effective:0.9"},
        {"depth": 1, "epochs": 2, "loss": tune.choice(["logit_adjusted", "focal"]), "class_weights": {"ill": 3}},
    ],
}
default = {"schedule": [{}, {"loss": "logit_adjusted"}]}
search = Search(heads=2)
"""
PATTERN = "patient([0-9]+)_"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Noise, four images a patient: nothing can be learned, so no bound on accuracy is kept."""
    for number in range(160):
        kind = "ill" if number // 4 % 4 == 0 else "well"
        put(tmp_path / "scans" / kind / f"patient{number // 4}_{number % 4}.png", picture(number))
    (tmp_path / "rare.py").write_text(SPACE)
    return tmp_path / "scans"


def test_what_is_required_and_what_belongs_together_comes_through(scans, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--space", "rare.py", "--backbone", "simple_cnn", "--image-size", "16", "--fast-dev-run"]
    flags += ["--data", "scans", "--group-by", PATTERN, "--fraction", "0.6", "--run-name", "r", "--metric", "f1:ill"]
    with without_ray():
        assert tune([*flags, "--require", "accuracy>=0.999", "--require", "loss<=50"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "by validation f1:ill among those with accuracy>=0.999 and loss<=50" in said
    assert "Required was accuracy>=0.999, which what is shipped does not keep: accuracy is" in said
    assert "Required was loss<=50, and it is kept" in said
    assert "kept together by --group-by patient([0-9]+)_: 40 groups of 4 to 4 images." in said
    run = RunFolder.open("r")
    settings = run.info["settings"]
    assert (settings["group_by"], settings["fraction"]) == (PATTERN, 0.6)
    assert settings["require"] == ["accuracy>=0.999", "loss<=50"]
    missed, kept = run.evaluation["requirements"]
    assert (missed["met"], kept["met"]) == (False, True)
    assert missed["on"] == "out of fold"
    assert missed["low"] < missed["figure"] < missed["high"]
    assert missed["test"][0] == pytest.approx(run.evaluation["shipped"]["test"]["accuracy"])
    for text in ("best/README.md", "report.html"):
        assert "which what is shipped does not keep" in (run.folder / text).read_text(encoding="utf-8")
    columns = run.trials.columns
    assert {"val_f1:ill", "val_recall:well", "schedule.1.loss"} <= set(columns)
    predictions = pd.read_parquet(run.folder / "predictions.parquet")
    assert (
        predictions.groupby("group")["path"].agg(lambda paths: len(set(names_in_paths(PATTERN, list(paths))))).max()
        == 1
    )
    assert predictions["group"].nunique() * 4 == len(predictions)
    shipped = predictions[predictions["split"] == "test"]
    right = np.stack(list(shipped["winner"]))[:, 1] >= (run.evaluation["shipped"]["threshold"] or 0.5)
    independent = effective_number(right == shipped["label"], shipped["group"])
    assert run.evaluation["shipped"]["independent"] == pytest.approx(independent)
    whole = load("scans", image_size=16, progress=False, reading=Reading.of(None, None, PATTERN))
    own = load("scans", image_size=16, progress=False, reading=Reading.of_run(settings))
    assert own.fingerprint == run.info["fingerprints"]["data"]
    assert set(own.train.paths) < set(whole.train.paths)
    assert own.test.paths == whole.test.paths
    labels, patients = own.train.labels, np.array(names_in_paths(PATTERN, own.train.paths))
    for rest, held_out in stratified_folds(3, labels, 0, own.train.groups):
        assert not set(patients[rest]) & set(patients[held_out])
    assert tune(["--resume", "r"]) == 0, "the images are found to be the same"
    assert tune(["--resume", "r", "--fraction", "0.5"]) == 2
    capsys.readouterr()
    assert raysearch(["evaluate", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(missed["test"][0])
    assert raysearch(["learning-curve", "r", "--fractions", "0.3,0.6,1", "--seeds", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "validation f1 of ill" in said
    assert "twice as many, accuracy would be about" in said
    curve = json.loads((run.folder / "learning_curve.json").read_text())
    assert len(curve["points"]) == 6
    images = [point["images"] for point in curve["points"]]
    assert images == sorted(images)
    assert images[-1] == len(own.train)
    check_what_is_left_of_a_curve(run, monkeypatch, capsys)
    assert raysearch(["learning-curve", "r", "--fractions", "10,20"]) == 2
    assert "give shares above 0 and at most 1" in capsys.readouterr().err


def check_what_is_left_of_a_curve(run, monkeypatch, capsys):
    """Ctrl-C leaves the points that are done, and what cannot be written is told all the same."""
    train, done = learning_curve.train_recipe, []

    def interrupted(*given, **settings):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(train(*given, **settings))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(learning_curve, "train_recipe", interrupted)
        assert raysearch(["learning-curve", "r", "--fractions", "0.3", "--seeds", "3"]) == 130
        assert len(json.loads((run.folder / "learning_curve.json").read_text())["points"]) == 6, "the earlier one"
        growing = run.folder / "learning_curve.partial.json"
        assert len(json.loads(growing.read_text())["points"]) == 2
        (run.folder / "learning_curve.json").unlink()
        done.clear()
        assert raysearch(["learning-curve", "r", "--fractions", "0.3", "--seeds", "3"]) == 130
    assert len(json.loads((run.folder / "learning_curve.json").read_text())["points"]) == 2
    capsys.readouterr()
    (run.folder / "learning_curve.json").unlink()
    with full_disk(0):
        assert raysearch(["learning-curve", "r", "--fractions", "0.3", "--seeds", "1", "--json"]) == 1
    caught = capsys.readouterr()
    assert len(json.loads(caught.out)["points"]) == 1
    assert "error: " in caught.err
    (run.folder / "learning_curve.json").mkdir()
    assert raysearch(["learning-curve", "r", "--fractions", "0.3"]) == 2
    assert "learning_curve.json cannot be written: it is a folder" in capsys.readouterr().err


def test_data_says_what_belongs_together(scans, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert raysearch(["data", "scans", "--group-by", PATTERN, "--image-size", "16"]) == 0
    assert "40 groups of 4 to 4 images" in " ".join(capsys.readouterr().out.split())
    assert raysearch(["data", "scans", "--group-by", "patient"]) == 2
    assert "has no (…) around what names the group" in capsys.readouterr().err
