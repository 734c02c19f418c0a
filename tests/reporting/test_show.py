"""A run looked at from the terminal: lists, filters, one trial with its curve, two compared."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysearch.cli.main import main
from raysearch.reporting.show import sparkline
from raysearch.run import Run
from tests.reporting.events import LOG


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    run = Run.create(tmp_path / "results" / "one", {"metric": "accuracy"})
    run.append(*LOG)
    return run


def said(capsys, *arguments: str) -> str:
    assert main(["show", "one", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    assert main(["show", "one", *arguments]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


def test_all_trials_the_best_first(here, capsys):
    shown = said(capsys)
    names = [name for name in here.trials["trial"] if name in shown]
    assert names == list(here.trials["trial"])
    best = here.trials.sort_values("val_accuracy", ascending=False)["trial"].iloc[0]
    rows = [line for line in shown.splitlines() if "│ t0" in line]
    assert best in rows[0]
    assert "learning_rate" in shown


def test_filters_orders_and_a_number(here, capsys):
    table = here.trials
    rows = list(csv.DictReader(io.StringIO(said(capsys, "--where", "state == 'done'", "--csv"))))
    assert [row["trial"] for row in rows] == list(
        table[table["state"] == "done"].sort_values("val_accuracy", ascending=False, kind="stable")["trial"]
    )
    by_epochs = json.loads(said(capsys, "--sort", "epochs", "--n", "1", "--json"))
    assert [row["epochs"] for row in by_epochs] == [table["epochs"].max()]
    assert [row["trial"] for row in json.loads(said(capsys, "--heads", "--json"))] == list(here.heads["trial"])


def test_what_the_list_shows_can_be_asked_for_by_the_same_name(here, capsys):
    table = here.trials
    rates, best = table["schedule.1.learning_rate"], table["val_accuracy"]
    assert rates.nunique() > 1
    found = json.loads(said(capsys, "--where", f"learning_rate == {rates.max()}", "--json"))
    assert {row["trial"] for row in found} == set(table["trial"][rates == rates.max()])
    assert list(found[0]) == list(table), "the columns are the table's own"
    found = json.loads(said(capsys, "--where", "accuracy > 0", "--json"))
    assert 0 < len(found) == (best > 0).sum() < len(table)
    found = json.loads(said(capsys, "--sort", "learning_rate", "--json"))
    assert [row["schedule.1.learning_rate"] for row in found] == rates.sort_values(ascending=False).tolist()


def test_a_narrow_terminal_has_room_for_the_recipe(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "learning_rate=" in said(capsys)


def test_the_list_says_how_many_of_how_many_and_what_the_test_images_said(here, capsys):
    assert said(capsys, "--where", "depth == 77") == "0 of 5 trials\n"
    assert "test accuracy" not in said(capsys)
    figure = {key: {"mean": 0.75, "std": 0.01, "values": [0.74, 0.76]} for key in ("accuracy", "macro_f1")}
    here.write_json("evaluation.json", {"trial": "t0001", "test": figure, "others": {}})
    assert said(capsys, "--n", "2").startswith("2 of 5 trials\n")
    assert "test accuracy: the winner (t0001, 2 trainings) 0.7500 ± 0.0100" in said(capsys)


def test_one_trial_with_its_stages_and_its_curve(here, capsys):
    trial = here.history[here.history["trial"].str.startswith("t")]["trial"].iloc[0]
    shown = said(capsys, trial)
    curve = here.history[here.history["trial"] == trial]["val_accuracy"]
    assert sparkline(list(curve)) in shown
    assert "stage 0" in shown
    assert "learning_rate" in shown


def test_two_trials_differ_in_what_is_listed_and_nothing_else(here, capsys):
    first, second = list(here.trials["trial"])[:2]
    shown = said(capsys, first, second)
    assert first in shown
    assert second in shown
    assert "backbone" not in shown, "the same in both"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--where", "deepth == 1"], "--where 'deepth == 1': name 'deepth' is not defined; columns are trial, parent"),
        (["--where", "depth =="], "--where 'depth =='"),
        (["--sort", "beauty"], "--sort beauty: there is no such column"),
        (["t0999"], "no trial 't0999' in this run; there are t0000 to t0004 and h0000 to h0000"),
        (["t0000", "t0001", "t0002"], "one trial is shown, or two are compared; got 3"),
    ],
)
def test_what_cannot_be_shown_is_said(here, capsys, arguments, says):
    assert says in refused(capsys, *arguments)


@example([1.7976931348623157e308, -9.98e291])
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
def test_a_sparkline_has_a_bar_for_every_value(values):
    line = sparkline(values)
    assert len(line) == len(values)
    finite = [bar for bar, value in zip(line, values, strict=True) if math.isfinite(value)]
    assert " " not in finite


def test_a_sparkline_rises_and_falls():
    assert sparkline([0.0, 1.0, 0.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([0.0, math.nan, 7.0]) == "▁ █"
