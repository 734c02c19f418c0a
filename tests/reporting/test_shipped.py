"""What is shipped, how it was chosen and how sure it may be: on the terminal and on the page."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from raysearch.record.tables import trials_table
from raysearch.reporting.ceiling import warnings_of
from raysearch.reporting.compare import paired_difference
from raysearch.reporting.comparison import comparison_line, comparison_of
from raysearch.reporting.measured import measured_models, student_sentence
from raysearch.reporting.page import page_content, page_text
from raysearch.reporting.shipped import finals_section
from raysearch.reporting.summary import summary
from raysearch.reporting.trials import ComparedImages
from raysearch.run import Run
from tests.reporting.events import LOG, row, segment, trial
from tests.reporting.shipped import BEGUN, KEPT, REPLACED, frontier, race, share, with_shipped
from tests.reporting.test_page import CLASSES, FINISHED, RunOf, a_tree, checked, evaluated, plots, predictions

DEFAULT = trial("t0000", "h0000") | {"role": "default"}


def line(events, metric="accuracy") -> str:
    comparison = comparison_of([DEFAULT, *events])
    assert comparison is not None
    return comparison_line(comparison, metric)


def summarized(tmp_path, evaluation, events) -> str:
    run = Run.create(tmp_path / "run", {"metric": "accuracy"})
    run.append(*events)
    run.write_json("evaluation.json", evaluation)
    predictions(run.folder / "predictions.parquet")
    console = Console(file=io.StringIO(), width=200)
    summary(run, console)
    return console.file.getvalue()


# ---- the comparison, from the log -----------------------------------------------------------------------------------


def test_a_default_that_is_kept_says_how_far_each_challenger_came():
    assert line(KEPT) == (
        "Final comparison on 3 folds of all labelled images: t0000 (the default) against t0003, t0005. t0000 is kept: "
        "t0003 +0.4 points (90 % interval -0.9 to +1.7) against it, which chance explains; "
        "t0005 -3.0 points (90 % interval -6.0 to +0.0) against it after 1 of 3 folds, and dropped."
    )


def test_a_challenger_that_replaces_it_says_by_how_much():
    assert line(REPLACED).endswith("t0003 replaces it: it is better by +2.1 points (90 % interval +0.4 to +3.8).")


def test_one_that_misses_what_is_required_by_more_is_not_told_as_better():
    """The bound comes first, and chance has no part in it."""
    missing = race("t0003", 3, 0.05, 0.02, 0.08) | {"nearer": -0.05}
    dropped = race("t0005", 1, -0.03, -0.06, 0.0) | {"nearer": -0.02, "goes_on": False}
    events = [DEFAULT, BEGUN, dropped, missing, KEPT[-1]]
    assert line(events[1:]).endswith(
        "t0005 -3.0 points (90 % interval -6.0 to +0.0) against it, and it misses what is required by 0.0200 more "
        "after 1 of 3 folds, and dropped; "
        "t0003 +5.0 points (90 % interval +2.0 to +8.0) against it, but it misses what is required by 0.0500 more."
    )
    rows = finals_section(events, None, "accuracy")["races"].rows
    assert [row[-1] for row in rows] == ["dropped: misses what is required by more", "misses what is required by more"]


def test_one_that_comes_nearer_to_what_is_required_but_is_not_chosen_was_better_all_the_same():
    nearer = race("t0005", 3, -0.01, -0.02, 0.01) | {"nearer": 0.01}
    best = race("t0003", 3, -0.01, -0.02, 0.01) | {"nearer": 0.02}
    rows = finals_section([DEFAULT, BEGUN, best, nearer, REPLACED[-1]], None, "accuracy")["races"].rows
    assert [row[-1] for row in rows] == ["replaces the default", "surely better, but not the best"]


def test_a_loss_is_not_told_in_points():
    assert "t0003 replaces it: it is better by +0.0210 loss (90 % interval +0.0040" in line(REPLACED, "loss")


def test_a_comparison_that_goes_on_chooses_nobody():
    assert line(KEPT[:4]).endswith("It is not over.")


def test_without_folds_nothing_was_compared():
    told = line([BEGUN | {"folds": 0, "finalists": ["t0003"]}])
    assert told.startswith("Nothing was compared out of fold: t0003, the best on validation")


def test_a_resumed_search_is_told_once_and_its_last_comparison_counts():
    twice = comparison_of([DEFAULT, *KEPT[:4], *KEPT])
    assert twice == comparison_of([DEFAULT, *KEPT])
    later = [BEGUN | {"finalists": ["t0000", "t0009"]}, race("t0009", 1, -0.1, -0.2, 0.0)]
    found = comparison_of([DEFAULT, *KEPT, *later])
    assert found is not None
    assert [one.trial for one in found.races] == ["t0009"]
    assert found.chosen is None
    assert comparison_of(LOG) is None


# ---- the terminal ---------------------------------------------------------------------------------------------------


def test_the_summary_begins_with_what_is_shipped_and_holds_it_to_the_default(tmp_path):
    evaluation = with_shipped(evaluated("t0000"))
    shown = summarized(tmp_path, evaluation, [*LOG, *KEPT])
    test = shown[shown.index("On the test images") :]
    rows = [one for one in test.splitlines() if "│" in one]
    accuracy = evaluation["shipped"]["test"]["accuracy"]
    assert "shipped: the average of 3 trainings" in rows[0]
    assert f"{accuracy:.4f} [" in rows[0]
    assert "single trainings with fresh seeds" in rows[1]
    assert "0.7100 ± 0.0100" in rows[1]
    assert "the default recipe, as the search trained it" in rows[2]
    assert "the best head alone" in rows[3]
    paired = paired_difference(tmp_path / "run" / "predictions.parquet", "default")
    assert f"What is shipped against the default, by accuracy, image by image: {paired}; {paired.verdict}" in test
    assert "Final comparison on 3 folds of all labelled images" in test


@pytest.mark.parametrize(
    ("kind", "words", "cost"),
    [
        ("single", "a single training", 1),
        ("mirror", "the average of 3 trainings, with the mirror image", 2),
        ("ensemble", "an ensemble of 4 networks", 4),
    ],
)
def test_each_kind_has_its_name_and_its_cost(kind, words, cost):
    first = measured_models(with_shipped(evaluated("t0000"), kind=kind))[0]
    assert (first.label, first.cost) == (f"shipped: {words}", cost)


def test_without_refits_the_searchs_own_winner_is_shipped_and_stands_there_once():
    evaluation = with_shipped(evaluated("t0000"), kind="single", images=0) | {"refits": 0}
    labels = [one.label for one in measured_models(evaluation)]
    assert labels[:2] == [
        "shipped: the winner as the search trained it",
        "the default recipe, as the search trained it",
    ]


def test_what_is_shipped_answers_by_its_threshold(tmp_path):
    path = tmp_path / "predictions.parquet"
    shares = [np.array([0.7, 0.3], np.float32), np.array([0.8, 0.2], np.float32)] * 10
    pd.DataFrame({"split": "test", "label": [1, 0] * 10, "winner": shares, "default": shares}).to_parquet(path)
    found = paired_difference(path, "default", 0.25)
    assert found is not None
    assert found.difference == pytest.approx(0.5)
    told = summarized(tmp_path, with_shipped(evaluated("t0000"), threshold=0.25), [*LOG, *KEPT])
    assert "The answer is dog from a probability of 0.250 on, not from one half" in told
    assert "What is shipped, at its threshold of 0.250, against the default, by accuracy, image by image: " in told


def test_a_student_at_its_threshold_is_not_told_as_if_it_answered_like_the_other():
    evaluation = with_shipped(evaluated("t0000"), kind="student", threshold=0.25) | {"unlabelled": 40}
    evaluation["frontier"] = [one | {"kind": "student"} for one in frontier()[:1]] + frontier()[1:2]
    assert (
        "its accuracy is 0.6800 (at its threshold of 0.250), that of the averaged network 0.6880; it is shipped."
        in (student_sentence(evaluation) or "")
    )


# ---- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> RunOf:
    predictions(tmp_path / "predictions.parquet")
    return RunOf([*a_tree(), *KEPT, FINISHED], tmp_path, {"classes": CLASSES}, with_shipped(evaluated("t0008")))


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}"') :].partition("</section>")[0]


def test_the_page_shows_the_races_the_frontier_calibration_and_what_may_be_withheld(run):
    content = page_content(run)
    assert [one[0] for one in content["finals"]["races"].rows] == ["t0003", "t0005", "t0003", "t0003"]
    assert [one[-1] for one in content["finals"]["races"].rows] == [
        "goes on",
        "dropped: not ahead",
        "goes on",
        "not surely better",
    ]
    figures = {one.name: one for one in [content["finals"]["frontier"], *content["sureness"]["plots"]]}
    assert set(figures) == {"frontier", "reliability", "risk-coverage"}
    for one in figures.values():
        assert len(checked(one.figure).data) > 1
    page = page_text(run)
    assert "Shipped is the average of 3 trainings; a prediction costs 1 pass through a network." in section(
        page, "finals"
    )
    errors = run.evaluation["shipped"]["calibration_error"]
    sure = section(page, "sureness")
    assert f"is {100 * errors['before']:.1f} % before and {100 * errors['after']:.1f} % after" in sure
    assert "temperature of 1.500, fitted out of fold on 2000 images" in sure


def test_the_frontier_has_each_point_out_of_fold_and_on_test_with_its_interval(run):
    figure = page_content(run)["finals"]["frontier"].figure
    known, test, default, ring = figure["data"]
    points = run.evaluation["frontier"]
    assert known["y"] == [pytest.approx(one["out_of_fold"]["accuracy"]) for one in points]
    assert test["y"] == [pytest.approx(one["test"]["accuracy"]) for one in points]
    tops = [y + bar for y, bar in zip(test["y"], test["error_y"]["array"], strict=True)]
    assert tops == [pytest.approx(one["test"]["high"], abs=1e-4) for one in points]
    assert figure["layout"]["xaxis"]["ticktext"] == [f"{one['kind']}<br>{one['cost']}" for one in points]
    assert ring["y"] == [test["y"][1]]
    assert default["y"][0] == pytest.approx(0.6)


def test_promises_are_those_of_the_evaluation_and_none_where_there_are_too_few_images(run):
    promises = run.evaluation["shipped"]["promises"]
    rows = page_content(run)["sureness"]["promises"].rows
    assert [row[0] for row in rows] == ["0.01", "0.02", "0.05", "0.1"]
    for row_, one in zip(rows, promises, strict=True):
        expected = "too few images" if one["confidence"] is None else f"{one['confidence']:.3f}"
        assert row_[1] == expected
    run.evaluation = with_shipped(evaluated("t0008"), images=20)
    assert page_content(run)["sureness"]["promises"] is None
    assert "With 20 out-of-fold images, raysearch predict --abstain cannot promise an error of 10 %" in page_text(run)


def test_where_nothing_is_known_out_of_fold_the_page_says_so(run):
    run.evaluation = with_shipped(evaluated("t0008"), kind="single", images=0)
    run.log = [one for one in run.log if one not in KEPT]
    page = page_text(run)
    assert "There was no final comparison" in section(page, "finals")
    assert "Nothing was measured out of fold" in section(page, "finals")
    assert "the network&#39;s own" in section(page, "sureness")
    for one in plots(page_content(run)):
        checked(one.figure)


def test_confusions_and_classes_are_of_what_is_shipped(run):
    content = page_content(run)
    confusion = run.evaluation["shipped"]["test"]["confusion"]
    assert content["confusion"].figure["data"][0]["text"] == [[str(n) for n in one] for one in confusion]
    names = [name for name, _ in content["classes"].groups]
    assert names[-2:] == ["shipped, out of fold", "shipped, test"]


# ---- what the figures cannot tell -----------------------------------------------------------------------------------


def trials(*figures: float) -> pd.DataFrame:
    """The default, and others, with these validation accuracies."""
    log = []
    for number, figure in enumerate(figures):
        name = f"t{number:04d}"
        made = trial(name) | ({"role": "default"} if not number else {})
        end = {"event": "segment_end", "trial": name, "segment": f"{name}.1", "epoch": 1, "finished": True}
        log += [made, segment(name), end | {"seconds": 1.0, "best": row(1, figure)}]
    return trials_table(log)


def test_recipes_within_one_standard_error_are_not_told_apart():
    [told] = warnings_of(trials(0.690, 0.700, 0.695), "accuracy", ComparedImages(500, 500), None)
    assert told.startswith(
        "Validation cannot tell the best recipes apart: 3 of them, the default included, have 0.690 to 0.700"
    )
    assert "one standard error is 0.021" in told
    assert "ceiling" not in told
    assert warnings_of(trials(0.60, 0.70, 0.695), "accuracy", ComparedImages(500, 500), None) == []
    assert warnings_of(trials(0.690, 0.700), "accuracy", None, None) == [], "not before it is known on how many images"


def test_no_ceiling_is_told_of_a_search_that_was_led_by_something_else():
    assert warnings_of(trials(0.950, 0.970, 0.954), "recall:cat", ComparedImages(524, 524), None) == []


def test_images_of_few_patients_tell_recipes_apart_later():
    assert warnings_of(trials(0.60, 0.70, 0.695), "accuracy", ComparedImages(500, 20), None) != []


def test_a_ceiling_is_said_in_plain_words():
    [told] = warnings_of(trials(0.950, 0.970, 0.954), "accuracy", ComparedImages(524, 524), None)
    assert told.startswith("Validation is at its ceiling (0.970)")
    assert "another population" in told
    [both] = warnings_of(trials(0.968, 0.970), "accuracy", ComparedImages(524, 524), None)
    assert "cannot tell" in both
    assert "ceiling" in both


def test_test_images_of_another_population_are_noticed():
    evaluation = evaluated("t0000") | with_shipped(evaluated("t0000"))
    assert warnings_of(trials(0.5), "accuracy", ComparedImages(500, 500), evaluation) == []
    evaluation["frontier"] = frontier(out_of_fold=0.95, test=0.85, images=600)
    [told] = warnings_of(trials(0.5), "accuracy", ComparedImages(500, 500), evaluation)
    assert told.startswith("The test images are not like the labelled ones: what is shipped has 0.958 [")
    assert f"{share(0.857, 600)['high']:.3f}]" in told


def test_a_warning_stands_in_the_answer_and_on_the_terminal(tmp_path, run):
    run.evaluation["frontier"] = frontier(out_of_fold=0.95, test=0.85, images=600)
    assert 'class="warning"' in section(page_text(run), "answer")
    assert "The test images are not like" in summarized(tmp_path, run.evaluation, [*LOG, *KEPT])
