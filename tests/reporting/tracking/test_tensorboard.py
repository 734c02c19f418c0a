"""TensorBoard's files, read with TensorBoard's own reader."""

from __future__ import annotations

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raysearch.record.tables import history_table
from raysearch.reporting.tracking.follow import show_now
from raysearch.reporting.tracking.story import Stories
from raysearch.reporting.tracking.tensorboard import TensorBoard
from tests.reporting.events import LOG
from tests.reporting.tracking.written import written_run


def read(run, trial):
    """Scalars of a trial: tag -> [(step, value), …]."""
    events = EventAccumulator(str(run.folder / "tensorboard" / trial))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_epoch_is_there_once_however_often_it_is_written(tmp_path):
    run = written_run(tmp_path / "run")
    history = history_table(LOG)
    for _ in range(2):
        assert show_now(run, TensorBoard(run), lambda line: None)
        assert sorted(path.name for path in (run.folder / "tensorboard").iterdir()) == [
            "h0000",
            "t0000",
            "t0001",
            "t0003",
        ]
        for trial, rows in history.groupby("trial"):
            scalars = read(run, trial)
            assert [step for step, _ in scalars["val/accuracy"]] == list(rows["epoch"])
            assert [value for _, value in scalars["val/accuracy"]] == pytest.approx(list(rows["val_accuracy"]))
            assert [value for _, value in scalars["train/loss"]] == pytest.approx(list(rows["train_loss"]))


def test_the_page_of_hyperparameters_has_the_recipe_and_the_best(tmp_path):
    run = written_run(tmp_path / "run")
    show_now(run, TensorBoard(run), lambda line: None)
    assert read(run, "t0000")["best/val_accuracy"] == [(2, pytest.approx(0.6))]
    events = EventAccumulator(str(run.folder / "tensorboard" / "t0000"))
    events.Reload()
    assert "hparams" in events.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name
    started = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"schedule.1.learning_rate" in started


def test_a_trial_that_goes_on_is_written_while_it_trains(tmp_path):
    run = written_run(tmp_path / "run")
    board, stories = TensorBoard(run), Stories()
    for event in LOG[:20]:  # to the third epoch of t0001, which goes on from its second
        for story in stories.take(event):
            board.show(story)
    patience = time.monotonic() + 60
    while [step for step, _ in read(run, "t0001")["val/accuracy"]] != [1, 2, 3]:
        assert time.monotonic() < patience
        time.sleep(0.1)
    for event in LOG[20:]:
        stories.take(event)
    board.close(stories)
    assert [step for step, _ in read(run, "t0001")["val/accuracy"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["猫", "caf\\xe9", "[red]", "a\nb", "007", 'q"u|o,te', "a.b", "nan", "a/b"])
def test_classes_of_any_name_have_their_curves(tmp_path, name):
    events = json.loads(json.dumps(LOG).replace("val_recall:cat", f"val_recall:{json.dumps(name)[1:-1]}"))
    run = written_run(tmp_path / "run", events)
    show_now(run, TensorBoard(run), lambda line: None)
    rows = history_table(events)
    rows = rows[rows["trial"] == "t0000"]
    found = EventAccumulator(str(run.folder / "tensorboard" / "t0000"))
    found.Reload()
    curves = [tag for tag in found.Tags()["scalars"] if tag.startswith("val/recall_") and not tag.endswith("_dog")]
    assert len(curves) == 1
    assert [one.value for one in found.Scalars(curves[0])] == pytest.approx(list(rows[f"val_recall:{name}"]))


def test_classes_that_differ_in_a_sign_alone_have_a_curve_each(tmp_path):
    events = json.loads(json.dumps(LOG).replace('"val_recall:cat": ', '"val_recall:>3": 0.75, "val_recall:<3": '))
    run = written_run(tmp_path / "run", events)
    show_now(run, TensorBoard(run), lambda line: None)
    rows = history_table(events)
    rows = rows[rows["trial"] == "t0000"]
    curves = [values for tag, values in read(run, "t0000").items() if tag.startswith("val/recall_")]
    assert [[value for _, value in curve] for curve in curves] == [
        pytest.approx(list(rows["val_recall:>3"])),
        pytest.approx(list(rows["val_recall:<3"])),
    ]
