"""Heads as commands see them: a whole grid in packs, judged in folds; a later run that starts from one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.commands import DeskHere, events
from tests.e2e.conftest import CLASSES, N_PER_CLASS, Search

pytestmark = pytest.mark.slow

# Three packs, one of each pooling.
SPACE = """
from ray import tune

from raysearch.space import Search

space = {
    "pooling": tune.choice(["avg", "max", "both"]),
    "schedule": [
        {
            "depth": 0,
            "epochs": 30,
            "learning_rate": tune.choice([1e-3, 1e-4]),
            "dropout": tune.quniform(0.0, 0.4, 0.4),
            "batch_size": 8,
        }
    ],
}
default = {"pooling": "max", "schedule": [{"learning_rate": 1e-4, "dropout": 0.4}]}
search = Search(sampler="grid", heads=50, folds=3, reduction=2)
"""


def _flags(space: Path, photos: Path, name: str) -> list[str]:
    return [
        *("--space", str(space), "--data", str(photos), "--backbone", "simple_cnn", "--weights", "random"),
        *("--concurrent", "1", "--refits", "0", "--cache", "off", "--run-name", name),
    ]


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> list[str]:
    """The search for heads, in a space file like feature_extraction. No two heads have the same loss."""
    path = tmp_path_factory.mktemp("space") / "only_heads.py"
    path.write_text(SPACE)
    return [*_flags(path, photos, "heads"), "--metric", "loss"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Search:
    """It, to its end."""
    desk = DeskHere(tmp_path_factory.mktemp("heads"))
    return Search(desk, desk.work / "results" / "heads", desk.tune(*flags))


def _winner(run: Path) -> str:
    return json.loads((run / "evaluation.json").read_text())["trial"]


def test_the_whole_grid_is_searched_in_packs(searched: Search) -> None:
    assert (searched.ended.code, searched.ended.err) == (0, "")
    assert "The best 10 of 12 heads" in searched.ended.out
    heads, trials = pd.read_csv(searched.run / "heads.csv"), pd.read_csv(searched.run / "trials.csv")
    assert len(trials) == 0
    assert list(heads["trial"]) == [f"h{number:04d}" for number in range(12)]
    points = list(heads[["pooling", "schedule.0.learning_rate", "schedule.0.dropout"]].itertuples(False, None))
    assert sorted(points) == sorted(itertools.product(["avg", "max", "both"], [1e-3, 1e-4], [0.0, 0.4]))
    assert points[0] == ("max", 1e-4, 0.4), "the default first"
    # Of the four of each pack two go on after 8 epochs, and one after 15.
    for _, pack in heads.groupby("pooling"):
        assert sorted(zip(pack["epochs"], pack["state"], strict=True)) == [
            (8, "stopped"),
            (8, "stopped"),
            (15, "stopped"),
            (30, "done"),
        ]
    trained = pd.read_csv(searched.run / "history.csv").groupby("trial")["epoch"].apply(list)
    for head in heads.itertuples():
        assert trained[head.trial] == list(range(1, head.epochs + 1))


def test_the_folds_choose_the_winner(searched: Search) -> None:
    history = pd.read_csv(searched.run / "history.csv")
    assert history[["cv_loss", "cv_accuracy", "cv_loss_std"]].notna().all(axis=None)
    assert history["cv_accuracy"].between(0, 1).all()
    assert _winner(searched.run) == history.sort_values("cv_loss")["trial"].iloc[0]
    evaluation = json.loads((searched.run / "evaluation.json").read_text())
    assert evaluation["others"]["default"]["trial"] == "h0000"


def test_the_winner_is_a_model(searched: Search, photos: Path) -> None:
    ended = searched.desk.raysearch("predict", "heads", photos / "blue", "--json")
    assert (ended.code, ended.err) == (0, "")
    answers = json.loads(ended.out)
    assert len(answers) == N_PER_CLASS
    assert {one["label"] for one in answers[0]["top"]} == set(CLASSES)


def test_a_later_run_starts_from_it_and_trains_no_head(searched: Search, space: Path, photos: Path) -> None:
    text = space.read_text()  # of all poolings, so that any head will do
    path = searched.desk.work / "fine.py"
    path.write_text(text.replace('tune.choice(["avg", "max"])', 'tune.choice(["avg", "max", "both"])'))
    ended = searched.desk.tune(*_flags(path, photos, "fine"), "--trials", 2, "--max-epochs", 2, "--head", "heads")
    assert (ended.code, ended.err) == (0, "")
    best = _winner(searched.run)
    assert f"Starting from {best} of {searched.run.resolve()}: no heads are trained" in ended.out
    run = searched.run.parent / "fine"
    log = events(run)
    assert [event["trial"] for event in log if event["event"] == "trial"] == ["h0000", "t0000", "t0001"]
    assert {event["trial"] for event in log if event["event"] == "epoch"} == {"t0000", "t0001"}
    trials, theirs = (
        pd.read_csv(run / "trials.csv"),
        pd.read_csv(searched.run / "heads.csv").set_index("trial").loc[best],
    )
    assert set(trials["parent"]) == {"h0000"}
    assert trials["handover_delta"].abs().max() <= 1e-4
    assert set(trials["pooling"]) == {theirs["pooling"]}
    assert set(trials["schedule.0.batch_size"]) == {8}, "it is said what the head was trained with"
    mine = pd.read_csv(run / "heads.csv").iloc[0]
    assert (mine["state"], mine["epochs"], mine["val_loss"]) == ("done", 30, pytest.approx(theirs["val_loss"]))
    assert (run / "best" / "model.safetensors").exists()
