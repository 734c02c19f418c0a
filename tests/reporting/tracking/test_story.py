"""What the log says of each trial, as trackers show it."""

from __future__ import annotations

import math

from raysearch.recipe import flatten
from raysearch.record.tables import history_table, recipe_columns, trials_table
from raysearch.reporting.tracking.story import Stories, figures, numbered
from tests.reporting.events import LOG, epoch, recipe, segment, trial


def told(events) -> Stories:
    stories = Stories()
    for event in events:
        stories.take(event)
    return stories


def test_the_stories_are_those_of_the_tables():
    stories, table, history = told(LOG), trials_table(LOG), history_table(LOG)
    trials = [story for story in stories.all.values() if not story.trial.is_head]
    assert [story.name for story in trials] == list(table["trial"])
    assert [story.trial.state for story in trials] == ["stopped", "done", "failed", "running", "waiting"]
    for story in stories.all.values():
        rows = history[history["trial"] == story.name]
        assert list(story.rows) == list(rows["epoch"])
        assert [row["val_accuracy"] for row in story.rows.values()] == list(rows["val_accuracy"])


def test_an_epoch_that_was_trained_again_counts_once_the_later_one():
    assert told(LOG).all["t0001"].rows[3]["val_accuracy"] == 0.66


def test_summary_is_of_the_best_epoch_not_of_the_last():
    story = told(LOG).all["t0000"]
    summary = story.summary()
    assert (summary["val_accuracy"], summary["best_epoch"], summary["epochs"]) == (0.6, 1, 2)
    assert story.rows[2]["val_accuracy"] == 0.5
    assert (summary["state"], summary["handover_delta"], summary["trial_seconds"]) == ("stopped", 1e-7, 1.5)
    assert told(LOG).all["t0002"].summary()["error"] == "the loss is nan at step 3"


def test_a_config_flattens_to_the_columns_of_the_table():
    row = trials_table(LOG).iloc[1]
    config = flatten(told(LOG).all["t0001"].config())
    assert config["schedule.1.class_weights"] == {"cat": 2.0, "dog": 1.0}
    names = recipe_columns(row.index)
    assert set(names) <= set(config)
    for name in set(names) - {"schedule.1.class_weights"}:
        assert config[name] == row[name] or (config[name] is None and row[name] != row[name]) or row[name] is None
    assert config["parent"] == "h0000"
    assert list(told(LOG).all["t0001"].config()["schedule"]) == ["0", "1"], "W&B makes columns of dicts, not of lists"
    assert numbered(recipe()) == numbered(numbered(recipe()))


def test_a_trial_at_rest_moves_again_when_it_is_promoted():
    stories = told(LOG[:11])
    assert stories.all["t0000"].trial.state.at_rest
    for event in ({"event": "promoted", "trial": "t0000"}, segment("t0000", 2, 2, 4)):
        stories.take(event)
        assert not stories.all["t0000"].trial.state.at_rest


def test_a_head_is_told_of_again_when_a_trial_starts_from_it():
    stories = told([trial("h0000"), epoch("h0000", 1, 0.5), trial("h0001")])
    assert not stories.all["h0000"].is_parent
    assert stories.all["h0000"] in stories.take(trial("t0000", "h0000"))
    assert stories.all["h0000"].is_parent
    assert not stories.all["h0001"].is_parent


def test_figures_are_finite_numbers():
    row = {"event": "epoch", "time": 1.0, "trial": "t0000", "epoch": 3, "stage": 1, "loss": math.nan, "auroc": None}
    assert figures(row | {"accuracy": 0.5, "note": "text"}) == {"stage": 1, "accuracy": 0.5}
