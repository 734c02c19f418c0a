"""The report page: it says what the run folder says, loads nothing, and every run has one, however it ended."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly import graph_objects
from safetensors.numpy import save_file
from scipy import stats

from raysearch.intervals import wilson
from raysearch.recipe import Recipe, Stage
from raysearch.record.tables import heads_table, history_table, trials_table
from raysearch.reporting import charts, curve_charts, trial_charts, value_charts
from raysearch.reporting.compare import comparable, paired_difference
from raysearch.reporting.elements import Plot
from raysearch.reporting.importances import parameter_importances
from raysearch.reporting.page import page_content, page_text, write_page
from raysearch.reporting.paths import trained_parameters, with_paths
from raysearch.run import Run
from raysearch.storage.files import replace_json
from tests.reporting.events import LOG, end, row, segment, trial

SECTIONS = ["answer", "finals", "sureness", "tree", "costs", "curves", "importances", "parallel"]
SECTIONS += ["confusion", "classes", "contrasts", "pictures", "record"]
FINISHED = {"event": "finished"}
CLASSES = ["cat", "dog"]
THEME = ("@ink", "@muted", "@grid", "@paper")  # the colours that the page puts in as it draws


@dataclass
class RunOf:
    """A run whose log is a list."""

    log: list[dict[str, Any]]
    folder: Path = Path("no such folder")
    info: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    prior: dict[str, Any] | None = None

    @property
    def trials(self) -> pd.DataFrame:
        return trials_table(self.log)

    @property
    def heads(self) -> pd.DataFrame:
        return heads_table(self.log)

    def events(self) -> list[dict[str, Any]]:
        return self.log


def made(
    name: str, parent: str | None, stages: list[Stage], role: str | None = None, /, **params: Any
) -> dict[str, Any]:
    """A trial of the last of `stages` is made; `params` are what was searched in it."""
    recipe = Recipe(backbone="simple_cnn", image_size=16, schedule=tuple(stages)).model_dump(mode="json")
    level = len(stages) - 1
    event = {"event": "trial", "trial": name, "parent": parent, "depth": stages[-1].depth, "stage": level}
    named = {f"schedule.{level}.{key}": value for key, value in params.items()}
    return {**event, "params": named, "recipe": recipe} | ({"role": role} if role else {})


def trained(name: str, figures: list[float], rates: list[float] | None = None) -> list[dict[str, Any]]:
    """A trial trains an epoch for each figure, and is done."""
    rows = [row(i + 1, figure) | {"lr": rates[i] if rates else 1e-3} for i, figure in enumerate(figures)]
    best = max(rows, key=lambda one: one["val_accuracy"])
    epochs = [{"event": "epoch", "trial": name, "stage": 1, **one} for one in rows]
    return [segment(name), *epochs, end(name, 1, best, len(rows), finished=True)]


def a_tree() -> list[dict[str, Any]]:
    """Two levels, each tested; the second starts from t0002, whose best epoch is its second of three."""
    head = Stage(depth=0, epochs=2)
    log = [made("h0000", None, [head]), *trained("h0000", [0.4, 0.5])]
    first = []
    for i in range(6):
        rate, course = 1e-4 * 3**i, "plateau" if i % 2 else "cosine"
        first.append(Stage(depth=1, epochs=3, learning_rate=rate, course=course))
        log.append(made(f"t{i:04d}", "h0000", [head, first[-1]], learning_rate=rate, course=course))
        log += trained(f"t{i:04d}", [0.5, 0.6 + 0.01 * i, 0.55 + 0.001 * i], [1e-3, 1e-3, 2e-4])
    closed = Stage(depth=0, epochs=3)
    log += [made("t0006", "h0000", [head, closed], "control", learning_rate=1e-3), *trained("t0006", [0.5, 0.55, 0.5])]
    verdict = {"verdict": "gain", "gain": 0.02, "low": 0.01, "high": 0.03, "images": 20}
    told = {"event": "level", "opened": ["block5"], "before": [], "leader": "t0005", "control": "t0006"}
    log.append(told | verdict | {"level": 1})
    second = Stage(depth=2, epochs=2)
    for i in range(7, 9):
        log.append(made(f"t{i:04d}", "t0002", [head, first[2], second], parent="t0002"))
        log += trained(f"t{i:04d}", [0.6, 0.7 + 0.01 * i])
    return log


def spread(*values: float) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values)) if len(values) > 1 else None, "values": values}


def measured(*accuracies: float, classes: list[str] = CLASSES) -> dict[str, Any]:
    one = {key: spread(0.25) for key in ("precision", "recall", "f1")} | {"support": 17}
    figures = {"accuracy": spread(*accuracies), "macro_f1": spread(*accuracies)}
    counts = [[5 if i == j else 1 for j in range(len(classes))] for i in range(len(classes))]
    return figures | {"per_class": dict.fromkeys(classes, one), "confusion": counts}


def evaluated(winner: str, classes: list[str] = CLASSES) -> dict[str, Any]:
    splits = {name: measured(0.7, 0.72, classes=classes) for name in ("train", "train_augmented", "val", "test")}
    others = {"default": {"trial": "t0000", "test": measured(0.6)}, "head": {"trial": "h0000", "test": measured(0.5)}}
    return {"trial": winner, "metric": "accuracy", **splits, "optimism": 0.0123, "others": others, "test_reads": 1}


def predictions(path: Path, images: int = 200) -> pd.DataFrame:
    """Two classes; the winner is right more often than the head."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, images)
    frame = pd.DataFrame({"split": ["val"] * 50 + ["test"] * (images - 50), "path": "x.png", "label": labels})
    for name, accuracy in (("winner", 0.9), ("default", 0.85), ("head", 0.5)):
        right = random.random(images) < accuracy
        sure = np.where(right, labels, 1 - labels)
        frame[name] = list(np.stack([1 - sure, sure], axis=1) * 0.8 + 0.1)
    frame.to_parquet(path)
    return frame


def plots(content: dict[str, Any]) -> list[Plot]:
    found = []
    for value in content.values():
        parts = value if isinstance(value, list | tuple) else [value]
        found += [part for part in parts if isinstance(part, Plot)]
    return found


def checked(figure: charts.Figure) -> graph_objects.Figure:
    """The figure as plotly's own schema reads it, which refuses what it does not know."""
    text = json.dumps(figure, allow_nan=False)
    for name in THEME:
        text = text.replace(f'"{name}"', '"#123456"')
    return graph_objects.Figure(json.loads(text))


@pytest.fixture
def finished(tmp_path) -> RunOf:
    predictions(tmp_path / "predictions.parquet")
    return RunOf([*a_tree(), FINISHED], tmp_path, {"classes": CLASSES}, evaluated("t0008"))


def test_the_page_is_one_file_in_the_run_folder_that_loads_nothing(tmp_path):
    run = Run.create(tmp_path / "run", {"metric": "accuracy"})
    run.append(*a_tree(), FINISHED)
    run.write_json("evaluation.json", evaluated("t0008"))
    path = write_page(run)
    assert path == run.folder / "report.html"
    assert path.stat().st_size < 6_000_000
    page = path.read_text(encoding="utf-8")
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|data:)[^"'>]+""", ours) == []
    assert "http" not in ours.replace("http-equiv", "")
    assert "@import" not in ours
    assert "url(" not in ours
    assert "default-src 'none'" in ours
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    assert page.count("plotly.js v") == 1


def test_every_figure_is_one_that_plotly_understands(finished):
    figures = plots(page_content(finished))
    assert {one.name for one in figures} >= {"tree", "verdicts", "costs", "curves", "importances", "parallel"}
    assert {one.name for one in figures} >= {"confusion", "slice-0", "slice-1"}
    for one in figures:
        assert len(checked(one.figure).data) > 0
        assert one.label
    page = page_text(finished)
    for one in figures:
        [text] = re.findall(rf'<script type="application/json" id="figure-{one.name}">(.*?)</script>', page, re.DOTALL)
        assert json.loads(text)["layout"]["height"] == one.figure["layout"]["height"]


def test_the_answer_says_the_recipe_the_figures_and_the_paired_intervals(finished):
    page = page_text(finished)
    answer = page[page.index('id="answer"') : page.index('id="tree"')]
    assert "t0008: simple_cnn with avg pooling and a linear head, trained in 3 stages: the head alone" in answer
    assert "then the head and the last 2 blocks for up to 2 epochs" in answer
    assert "71.0 % ± 1.0" in answer
    assert "60.0 %" in answer
    head = paired_difference(finished.folder / "predictions.parquet", "head")
    assert head is not None
    assert head.verdict == "better"
    assert f"Against the best head alone, by accuracy: {head}; better." in answer
    assert "+0.0123" in answer
    assert "have been read" not in answer


def test_the_recipe_is_told_as_it_was_trained_for_good(tmp_path):
    stages = (Stage(depth=0, epochs=2), Stage(depth=1, epochs=18, keep="last", mixing="cutmix"))
    recipe = Recipe(backbone="simple_cnn", image_size=16, schedule=stages).model_dump(mode="json")
    refit = {"event": "refit", "trial": "t0008", "seed": 1000, "recipe": recipe, "best": None, "seconds": 1.0}
    answer = page_content(RunOf([*a_tree(), refit, FINISHED], tmp_path, {"classes": CLASSES}, evaluated("t0008")))
    assert "the head and the last block for 18 epochs at" in answer["answer"]["recipe"]
    assert "(one_cycle, cutmix)" in answer["answer"]["recipe"]
    assert "up to 18" not in answer["answer"]["recipe"]
    assert ["epochs", "2", "18"] in answer["answer"]["stages"].rows


def test_a_paired_interval_is_that_of_the_paired_t_test(tmp_path):
    path = tmp_path / "predictions.parquet"
    frame = predictions(path)
    test = frame[frame["split"] == "test"]
    right = {name: np.stack(list(test[name])).argmax(1) == test["label"] for name in ("winner", "default")}
    expected = stats.ttest_rel(right["winner"].astype(float), right["default"].astype(float))
    found = paired_difference(path, "default")
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.images == 150
    assert paired_difference(path, "nobody") is None
    assert paired_difference(tmp_path / "nothing.parquet", "head") is None
    same = paired_difference(path, "winner")
    assert same is not None
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    assert "not to be told apart on 150 images" in same.verdict


@pytest.mark.parametrize(
    "log",
    [
        [],
        [{"event": "budget", "heads": 1, "trials": 1, "max_epochs": 1}],
        [trial("t0000")],
        [trial("t0000"), segment("t0000"), {"event": "failed", "trial": "t0000", "error": "nan"}],
        [trial("h0000"), segment("h0000"), end("h0000", 1, row(1, 0.4), 1, finished=True)],
        [trial("t0000"), *trained("t0000", [0.5])],
        [*LOG, {"event": "interrupted", "reason": "Ctrl-C"}],
        [made("h0000", None, [Stage(depth=0, epochs=2)]), *trained("h0000", [0.4, 0.5]), FINISHED],
    ],
    ids=["empty", "begun", "waiting", "failed only", "a head", "one trial", "stopped", "heads alone"],
)
def test_a_run_that_was_cut_short_has_a_page_too(log):
    run = RunOf(log)
    page = page_text(run)
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    assert "The test images have not been read yet" in page
    assert "made at the end of the search" in page
    for one in plots(page_content(run)):
        checked(one.figure)


@given(st.lists(st.sampled_from([*LOG, *a_tree(), FINISHED]), max_size=40))
def test_any_log_gives_a_page(events):
    """A log that lost a part is still read: nobody should have to repair it to see what it has."""
    for one in plots(page_content(RunOf(events))):
        json.dumps(one.figure, allow_nan=False)


def test_names_of_classes_and_errors_stay_text(tmp_path):
    odd = "</script><img src=x onerror=alert(1)>"
    log = [*a_tree(), {"event": "failed", "trial": "t0000", "error": odd}]
    classes = [odd, "<b>dog"]
    info = {"classes": classes, "skipped": [{"path": f"{odd}.png", "reason": "truncated"}], "command": odd}
    page = page_text(RunOf(log, tmp_path, info, evaluated("t0008", classes)))
    assert odd not in page
    assert "&lt;/script&gt;&lt;img src=x" in page
    assert "1 skipped" in page


def test_the_record_has_the_command_versions_fingerprints_cache_decisions_and_failures():
    info = {
        "command": "python -m raysearch.tune --space 'my space.py'",
        "versions": {"torch": "2.14.1"},
        "machine": {"cpus": 2},
        "fingerprints": {"data": "01b99a", "weights": "dd6092"},
        "weights": {"origin": "imagenet", "reason": "asked for"},
        "settings": {"metric": "accuracy", "rungs": [4]},
        "cache": {
            "lines": ["depth 1: boundary cached"],
            "outcome": {"1": {"way": "boundary", "train_seconds": 45.451}},
        },
        "skipped": [{"path": f"{i}.png", "reason": "truncated"} for i in range(60)],
    }
    page = page_text(RunOf(LOG, info=info))
    record = page[page.index('id="record"') : page.index("</main>")]
    for piece in ("&#39;my space.py&#39;", "torch 2.14.1", "01b99a", "dd6092", "imagenet (asked for)", "cpus 2", "[4]"):
        assert piece in record
    for piece in ("depth 1: boundary cached", "45.45", "60 skipped", "49.png", "the loss is nan at step 3"):
        assert piece in record
    assert "50.png" not in record
    assert "its process died" in record


def test_classes_are_measured_on_every_split_there_is(finished):
    table = page_content(finished)["classes"]
    assert table.columns[1:5] == ["precision", "recall", "F1", "support"]
    assert table.groups == [("", 1), ("train", 4), ("train, augmented", 4), ("validation", 4), ("test", 4)]
    assert len(table.columns) == 1 + 4 * 4
    assert table.rows[0][:5] == ["cat", "0.250", "0.250", "0.250", "17"]
    del finished.evaluation["val"]  # a winner that was trained on it too
    assert len(page_content(finished)["classes"].columns) == 1 + 3 * 4


def test_the_tree_joins_trials_to_their_parents_and_thickens_the_path_of_the_winner(finished):
    figure = page_content(finished)["tree"].figure
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert traces["the winner's path"]["y"] == [0.5, 0.62, 0.78]
    assert figure["layout"]["xaxis"]["ticktext"] == ["heads", "level 1", "level 2"]
    assert len(traces["depth 1"]["x"]) == 6
    interval = traces["the best, 95 % interval"]
    low, high = wilson(0.78, 50 - 20)  # validation images of the file, less those that the level held out
    ends = (interval["y"][2] - interval["error_y"]["arrayminus"][2], interval["y"][2] + interval["error_y"]["array"][2])
    assert ends == pytest.approx((low, high), abs=1e-4)


def test_intervals_of_the_best_are_drawn_only_where_the_number_of_images_is_known():
    heads = heads_table(a_tree())
    paths = with_paths(trials_table(a_tree()), heads)
    names = [
        {trace["name"] for trace in trial_charts.schedule_tree(paths, heads, metric, None, images)["data"]}
        for metric, images in (("accuracy", 100), ("accuracy", None), ("macro_f1", 100))
    ]
    assert ["the best, 95 % interval" in one for one in names] == [True, False, False]


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (10, 10), (301, 500)])
def test_wilsons_interval_is_scipys(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high))


def test_paths_add_up_what_a_trial_started_from():
    log = a_tree()
    paths = with_paths(trials_table(log), heads_table(log)).set_index("trial")
    assert paths.loc["t0002", ["level", "path_seconds", "epochs_before"]].tolist() == [1, 3.0, 0]
    assert paths.loc["t0008", ["level", "path_seconds", "epochs_before"]].tolist() == [2, 4.5, 2]


def test_a_curve_begins_where_its_parent_was_left_and_shows_the_drops():
    log = a_tree()
    trials, heads, history = trials_table(log), heads_table(log), history_table(log)
    figure, drawn = curve_charts.learning_curves(with_paths(trials, heads), heads, history, "accuracy", "t0008")
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert drawn == 9
    depth2 = traces["depth 2"]
    assert list(zip(depth2["x"], depth2["y"], strict=True))[:4] == [(2, 0.62), (3, 0.6), (4, 0.77), (None, None)]
    begun = traces["a stage begins"]
    assert list(zip(begun["x"], begun["y"], strict=True)) == [(0, 0.5), (2, 0.62)]
    drops = traces["learning rate dropped"]  # of the plateau courses only; a cosine falls all the time
    assert list(zip(drops["x"], drops["y"], strict=True)) == [(3, 0.551), (3, 0.553), (3, 0.555)]


def test_a_figure_that_is_not_finite_leaves_a_gap():
    log = [trial("t0000"), segment("t0000")]
    log += [
        {"event": "epoch", "trial": "t0000", "stage": 1, **row(i, 0.5, loss)} for i, loss in ((1, 2.0), (2, math.inf))
    ]
    log.append(end("t0000", 1, row(1, 0.5, 2.0), 2, finished=True))
    for one in plots(page_content(RunOf(log, info={"settings": {"metric": "loss"}}))):
        json.dumps(one.figure, allow_nan=False)
        if one.name == "curves":
            assert one.figure["data"][0]["y"] == [2.0, None, None]


def test_a_very_long_search_stays_a_page(tmp_path):
    head = Stage(depth=0, epochs=2)
    log = [made("h0000", None, [head]), *trained("h0000", [0.4, 0.5])]
    for i in range(600):
        rate = 1e-4 * (1 + i)
        log.append(
            made(
                f"t{i:04d}", "h0000", [head, Stage(depth=1 + i % 4, epochs=20, learning_rate=rate)], learning_rate=rate
            )
        )
        log += trained(f"t{i:04d}", [0.5 + (i * 7 + epoch) % 100 / 300 for epoch in range(20)])
    (tmp_path / "pictures").mkdir()
    for i in range(20):  # more than the page has room for
        (tmp_path / "pictures" / f"{i}.webp").write_bytes(bytes(100_000))
    strips = [{"file": f"{i}.webp", "width": 96, "class": str(i), "images": 1} for i in range(20)]
    replace_json(tmp_path / "pictures" / "pictures.json", {"classes": strips, "mistaken": 0, "of": 1})
    run = RunOf(log, tmp_path)
    page = page_text(run)
    assert 5_700_000 < len(page.encode()) < 6_000_000
    assert "more are in the run folder, in pictures/" in page
    content = page_content(run)
    assert "the best 500" in " ".join(content["counts"])
    assert "Of 600 trials the best" in content["curves"].caption
    assert "level 1: 600 trials after 20 epochs" in content["importances"][0].caption
    assert "At most 200 of a level" in content["importances"][0].caption


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.booleans())
def test_on_the_pareto_front_nothing_is_beaten_and_off_it_everything_is(points, lower):
    table = pd.DataFrame(points, columns=["cost", "figure"])
    front = set(trial_charts.pareto(table, "cost", "figure", lower=lower).itertuples(index=False, name=None))
    sign = -1 if lower else 1
    for cost, figure in points:
        beaten = any(c <= cost and sign * f >= sign * figure and (c, f) != (cost, figure) for c, f in points)
        assert ((cost, figure) in front) != beaten


def test_trained_parameters_are_counted_without_buffers_and_known_for_trials_of_the_same_shape(tmp_path):
    (tmp_path / "checkpoints" / "t0000").mkdir(parents=True)
    tensors = {"a.weight": np.zeros((3, 4)), "a.running_mean": np.zeros(7), "head.bias": np.zeros(2)}
    save_file(tensors, tmp_path / "checkpoints" / "t0000" / "best.safetensors")
    counts = trained_parameters(tmp_path, trials_table(a_tree()))
    assert counts[:6] == [14] * 6
    assert all(math.isnan(count) for count in counts[6:])


def test_trials_of_a_level_are_compared_after_as_many_epochs_and_controls_are_left_out():
    stages = [Stage(depth=0, epochs=2), Stage(depth=1, epochs=8)]
    log = [made("t0000", None, stages, learning_rate=1e-3), *trained("t0000", [0.5, 0.4, 0.9])]  # promoted
    log += [made("t0001", None, stages, learning_rate=1e-4), *trained("t0001", [0.3, 0.6])]
    log += [made("t0002", None, stages, "control", learning_rate=1e-4), *trained("t0002", [0.8])]
    paths = with_paths(trials_table(log), heads_table(log))
    compared, searched, epochs = comparable(paths, history_table(log), log, "accuracy")
    assert dict(zip(compared["trial"], compared["score"], strict=True)) == {"t0000": 0.5, "t0001": 0.6}
    assert searched == {1: ["learning_rate"]}
    assert epochs == {1: 2}


def test_the_value_that_decides_is_the_most_important():
    random = np.random.default_rng(0)
    rows = [
        {"trial": f"t{i:04d}", "level": 1, "depth": 1, "rate": 10 ** random.uniform(-4, -2), "course": "ab"[i % 2]}
        for i in range(20)
    ]
    compared = pd.DataFrame(rows)
    compared["score"] = -((np.log10(compared["rate"]) + 3) ** 2)
    shares = parameter_importances(compared, {1: ["rate", "course"]})[1]
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.8
    assert parameter_importances(compared, {1: ["rate", "course"]})[1] == shares  # the forest is seeded
    assert parameter_importances(compared.head(4), {1: ["rate", "course"]}) == {}
    assert parameter_importances(compared.assign(score=0.5), {1: ["rate", "course"]}) == {}


def test_a_logarithmic_axis_of_the_parallel_coordinates_is_labelled_with_the_values():
    compared = pd.DataFrame({"depth": [1, 1], "score": [0.5, 0.6], "rate": [1e-4, 1e-2], "course": ["b", "a"]})
    figure = value_charts.parallel_coordinates(compared, ["rate", "course"], "accuracy")
    rate, course, score = figure["data"][0]["dimensions"]
    assert rate["values"] == [-4, -2]
    assert dict(zip(rate["ticktext"], rate["tickvals"], strict=True))["0.001"] == -3
    assert course["values"] == [1, 0]
    assert score["values"] == [0.5, 0.6]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_depths_can_be_seen_in_both_themes(paper):
    for colour in charts.DEPTH_COLOURS:
        light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3
    assert f"--paper: {paper}" in page_text(RunOf([]))
