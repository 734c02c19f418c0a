"""The tables say what the log says: states, best figures, epochs that were run twice."""

from __future__ import annotations

import io
import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.record.tables import (
    heads_table,
    history_table,
    leaders,
    recipe_columns,
    trials_table,
    varying,
)
from raysearch.record.trial import State
from tests.reporting.events import LOG, end, row, segment, trial


def states(events: list) -> dict[str, str]:
    table = trials_table(events)
    return dict(zip(table["trial"], table["state"], strict=True))


def test_every_state_is_told_apart():
    assert states(LOG) == {
        "t0000": "stopped",
        "t0001": "done",
        "t0002": "failed",
        "t0003": "running",
        "t0004": "waiting",
    }


def test_a_promoted_trial_waits_until_its_segment_starts():
    log = [*LOG, {"event": "promoted", "trial": "t0000"}]
    assert states(log)["t0000"] == "waiting"
    assert states([*log, segment("t0000", 2, 2, 4)])["t0000"] == "running"


@pytest.mark.parametrize("kind", ["segment_lost", "segment_paused"])
def test_a_lost_segment_no_longer_runs(kind):
    log = [
        *LOG,
        {"event": kind, "trial": "t0003", "segment": "t0003.1", "reason": "the driver ended", "cause": "machine"},
    ]
    assert states(log)["t0003"] == "waiting"


def test_nothing_runs_after_the_driver_has_said_that_it_stopped():
    assert "running" not in states([*LOG, {"event": "interrupted", "reason": "Ctrl-C"}]).values()


def test_figures_are_the_best_of_the_ended_segments_and_the_leading_columns_are_fixed():
    table = trials_table(LOG).set_index("trial")
    assert list(trials_table(LOG).columns[:10]) == [
        "trial",
        "parent",
        "depth",
        "state",
        "epochs",
        "seconds",
        "handover_delta",
        "val_accuracy",
        "val_loss",
        "val_macro_f1",
    ]
    assert table.loc["t0000", ["val_accuracy", "best_epoch", "epochs", "handover_delta"]].tolist() == [0.6, 1, 2, 1e-7]
    assert table.loc["t0001", ["val_accuracy", "epochs", "seconds"]].tolist() == [0.8, 4, 3.0]
    assert math.isnan(table.loc["t0003", "val_accuracy"])  # its segment has not ended: no checkpoint holds that 0.9
    assert table.loc["t0001", "val_recall:cat"] == 0.25
    assert table.loc["t0001", "schedule.1.learning_rate"] == 1e-3


def test_heads_and_trials_are_kept_apart():
    assert heads_table(LOG)["trial"].tolist() == ["h0000"]
    assert not trials_table(LOG)["trial"].str.startswith("h").any()
    assert heads_table(LOG)["state"].tolist() == ["done"]


def test_an_epoch_that_was_run_twice_counts_once_and_the_later_one_wins():
    history = history_table(LOG)
    assert not history.duplicated(["trial", "epoch"]).any()
    assert history.query("trial == 't0001' and epoch == 3")["val_accuracy"].tolist() == [0.66]
    assert history.query("trial == 't0001'")["epoch"].tolist() == [1, 2, 3, 4]
    assert list(history.columns[:6]) == ["trial", "epoch", "stage", "lr", "train_loss", "train_accuracy"]
    assert "event" not in history


def test_an_empty_log_gives_empty_tables_with_their_columns():
    for table in (trials_table([]), heads_table([])):
        assert len(table) == 0
        assert {"trial", "state", "val_accuracy"} <= set(table.columns)
    assert "val_loss" in history_table([])


def test_class_weights_survive_the_csv():
    text = trials_table(LOG).to_csv(index=False)
    cell = pd.read_csv(io.StringIO(text)).set_index("trial").loc["t0001", "schedule.1.class_weights"]
    assert json.loads(cell) == {"cat": 2.0, "dog": 1.0}


def test_leaders_are_sorted_by_the_metric_its_direction_and_then_the_loss():
    table = trials_table(LOG)
    assert leaders(table)["trial"].tolist() == ["t0001", "t0000"]
    assert leaders(table, n=1)["trial"].tolist() == ["t0001"]
    log = [trial("t0000"), segment("t0000"), end("t0000", 1, row(1, 0.5, 2.0), 1)]
    log += [trial("t0001"), segment("t0001"), end("t0001", 1, row(1, 0.5, 1.0), 1)]
    log += [trial("t0002"), segment("t0002"), end("t0002", 1, row(1, 0.4, 0.5), 1)]
    assert leaders(trials_table(log))["trial"].tolist() == ["t0001", "t0000", "t0002"]
    assert leaders(trials_table(log), "loss")["trial"].tolist() == ["t0002", "t0001", "t0000"]
    assert len(leaders(trials_table(log), "auroc")) == 0


def test_only_what_varies_is_named():
    table = trials_table(LOG)
    assert varying(table, recipe_columns(table)) == ["schedule.1.learning_rate", "schedule.1.class_weights"]


@given(st.lists(st.sampled_from(LOG), max_size=40))
def test_any_log_gives_tables(events):
    """A log cut anywhere, or of which a part is lost, is still read: nobody should have to repair it to see it."""
    table = trials_table(events)
    assert set(table["state"]) <= set(State)
    assert table["trial"].is_unique
    assert not history_table(events).duplicated(["trial", "epoch"]).any()
