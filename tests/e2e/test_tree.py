"""A schedule as commands see it: searched level by level with a verdict on each, and its path trained again."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pandas as pd
import pytest

from tests.e2e.commands import DeskHere, events
from tests.e2e.conftest import Search

pytestmark = pytest.mark.slow

SPACE = """
from ray import tune

from raysearch.space import Search

def opened(depth):
    return {"depth": depth, "learning_rate": tune.loguniform(1e-4, 1e-2), "batch_size": 16, "course": "plateau"}

space = {"schedule": [{"depth": 0, "epochs": 2, "batch_size": 16}, opened(1), opened(2) | {"inherit": 0.5}]}
default = {"schedule": [{}, {"learning_rate": 1e-3}, {"learning_rate": 1e-3}]}
search = Search(heads=1, beam=2, min_gain=0.0, confidence=0.999, lr_find=True)
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Search:
    """A search of two levels. At this confidence six images tell nothing, so that both open."""
    desk = DeskHere(tmp_path_factory.mktemp("tree"))
    (desk.work / "tree.py").write_text(SPACE)
    flags = ["--space", "tree.py", *_common(photos), "--trials", "6", "--max-epochs", "4", "--run-name", "tree"]
    return Search(desk, desk.work / "results" / "tree", desk.tune(*flags, "--refits", "1"))


def _common(photos: Path) -> list[str]:
    data = ["--data", str(photos), "--backbone", "simple_cnn", "--weights", "random"]
    return [*data, "--cache", "off", "--concurrent", "1"]


def test_a_tree_is_searched_level_by_level_and_says_what_each_brought(grown: Search) -> None:
    assert grown.ended.code == 0, grown.ended
    verdicts = [event for event in events(grown.run) if event["event"] == "level"]
    assert [(one["level"], one["verdict"]) for one in verdicts] == [(1, "undecided"), (2, "undecided")]
    assert [one["opened"] for one in verdicts] == [["block4"], ["block3"]]
    assert "Whether it was worth going deeper, on validation images that chose nothing" in grown.ended.out
    assert "opening block4: " in grown.ended.out
    assert "against training longer the head alone: undecided on" in grown.ended.out
    tested = {event["level"]: event for event in events(grown.run) if event["event"] == "lr_find"}
    assert [list(tested[level]["depths"]) for level in (1, 2)] == [["1"], ["2"]]
    trials = pd.read_csv(grown.run / "trials.csv").set_index("trial")
    bounds = tested[1]["depths"]["1"]
    assert bounds["low"] <= trials.loc["t0001", "schedule.1.learning_rate"] <= bounds["high"]
    assert trials.loc["t0000", "schedule.1.learning_rate"] == 1e-3, "the known-good one stays as it is"
    assert list(trials["depth"]) == [1, 1, 0, 2, 2, 1]
    for parent in trials["parent"][3:]:
        assert trials.loc[parent, "depth"] == 1
    assert (trials["handover_delta"].abs() < 1e-4).all()
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{grown.run / 'study.db'}")
    assert [trial.params.get("schedule.2.parent") for trial in study.trials][3:] == list(trials["parent"][3:])


def test_a_path_trained_again_from_the_weights_has_the_same_losses(grown: Search, photos: Path) -> None:
    """By hand, on all validation images, and then from the recipe that came of it."""
    desk = grown.desk
    chosen = SPACE.replace("tune.loguniform(1e-4, 1e-2)", "3e-3").replace('{"learning_rate": 1e-3}', "{}")
    settings = 'heads=1, beam=1, levels=2, winner="deepest"'
    (desk.work / "hand.py").write_text(
        chosen.replace("heads=1, beam=2, min_gain=0.0, confidence=0.999, lr_find=True", settings)
    )
    by_hand = ["--space", "hand.py", *_common(photos), "--max-epochs", "4", "--refits", "0", "--run-name", "hand"]
    assert (ended := desk.tune(*by_hand)).code == 0, ended
    recipe = desk.work / "results" / "hand" / "best" / "recipe.json"
    assert [stage["depth"] for stage in json.loads(recipe.read_text())["schedule"]] == [0, 1, 2]
    again = desk.tune(
        "--recipe", recipe, "--data", str(photos), "--cache", "off", "--concurrent", "1", "--run-name", "again"
    )
    assert again.code == 0, again
    tables = [pd.read_csv(desk.work / "results" / name / "history.csv") for name in ("hand", "again")]
    columns = ["trial", "epoch", "stage", "lr", "train_loss", "val_loss", "val_accuracy"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns], check_exact=True)


def test_a_recipe_and_a_search_at_once_are_refused(here: DeskHere, photos: Path) -> None:
    (here.work / "r.json").write_text("{}")
    ended = here.tune("--recipe", "r.json", "--space", "baseline", "--trials", "3", "--data", str(photos))
    assert ended.code == 2
    assert "--space cannot be used with --recipe, which searches nothing" in ended.err
    assert "--trials cannot be used with --recipe" in ended.err
    ended = here.tune("--recipe", "r.json", "--data", str(photos))
    assert ended.code == 2
    assert "--recipe r.json: backbone: Field required" in ended.err
