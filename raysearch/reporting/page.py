"""The report page: one HTML file with everything that a run found, which loads nothing and can be sent to anybody.

    write_page(Run.open("fine_tune-20250102-030405"))       # <run>/report.html

It is made from the run folder as it stands, so a search that still runs, or was cut short, has a page too: what cannot
be shown is left out with a sentence.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial
from plotly.offline import get_plotlyjs
from safetensors import safe_open

from raysearch.files import replace_text
from raysearch.intervals import mean_interval
from raysearch.reporting import charts
from raysearch.reporting.tables import (
    LOWER_IS_BETTER,
    Event,
    ancestry,
    cell,
    deciding,
    history_table,
    leaders,
    missing,
    stages_of,
)
from raysearch.reporting.terminal import FinishedRun, measured_models, plus_minus, verdict_line

_SPLITS = (("train", "train"), ("train_augmented", "train, augmented"), ("val", "validation"), ("test", "test"))
_FEW = 5  # trials of a level; of fewer, importances say nothing
_MOST = 500  # trials in a figure
_FOREST = 200  # trials of a level that importances are estimated from; their cost grows faster than the trials
_MOST_CLASSES = 100  # in the picture of the confusion matrix; a larger one would not fit the page's 6 MB
_LISTED = 50  # skipped images and failures that are spelled out
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Plot:
    """A figure on the page."""

    name: str
    """Its place in the page's addresses, e.g. "tree"."""
    figure: charts.Figure
    label: str
    """What it shows, for those who do not see it."""
    caption: str = ""
    """How to read it."""


@dataclass(frozen=True)
class Table:
    """A table on the page; cells are text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    """The columns that hold words, which stand left; numbers stand right."""


@dataclass(frozen=True)
class Paired:
    """By how much one model is right more often than another on the same images."""

    difference: float
    """Of the shares of right answers, in [-1, 1]."""
    low: float
    high: float
    """Ends of its 95 % interval."""
    images: int

    def __str__(self) -> str:
        ends = f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return f"{100 * self.difference:+.1f} points, 95 % interval {ends}"

    @property
    def verdict(self) -> str:
        """The interval in words."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else f"not to be told apart on {self.images} images"


def write_page(run: FinishedRun) -> Path:
    """Write `report.html` into the run folder, replacing it at once.

    Returns: its path.

    Raises:
        InputError: `run.json` or `evaluation.json` cannot be read.
    """
    path = run.folder / "report.html"
    replace_text(path, page_text(run))
    return path


def page_text(run: FinishedRun) -> str:
    """The page, HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("raysearch", "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(page_content(run), plotly=get_plotlyjs())


def page_content(run: FinishedRun) -> dict[str, Any]:
    """What the template shows: text, tables and figures; a sentence in place of what there is nothing to show of."""
    events, info, evaluation = run.events(), run.info, run.evaluation
    metric = info.get("settings", {}).get("metric", "accuracy")
    trials, heads, history = run.trials, run.heads, history_table(events)
    if not len(trials):  # heads were all that was searched, or all that it came to
        trials, heads = heads, heads.iloc[:0]
    able = trials[trials["state"] != "failed"]
    paths = charts.with_paths(able, heads)
    scored = leaders(paths, metric, len(paths))
    best = scored.head(_MOST)
    leader = next(iter([*best["trial"], *leaders(heads, metric, 1)["trial"]]), None)
    winner = evaluation["trial"] if evaluation is not None else leader
    shown = paths[paths["trial"].isin({*best["trial"], *ancestry(winner, [paths, heads])})]
    levels = list({event["level"]: event for event in events if event["event"] == "level"}.values())
    compared, searched, epochs = comparable(paths, history, events, metric)
    drawn = compared[compared["trial"].isin(shown["trial"])]
    return {
        "name": run.folder.resolve().name,
        "metric": metric,
        "state": _state(run.folder, events),
        "answer": _answer(run.folder, evaluation, [paths, heads], winner, metric),
        "counts": _counts(trials, heads, len(scored)),
        "tree": _tree(shown, heads, metric, winner, _images(run.folder, levels)),
        "verdicts": _verdicts(levels),
        "verdict_lines": [verdict_line(event) for event in levels],
        "best": _best_table(best.head(10), metric),
        "costs": _costs(run.folder, shown, metric),
        "curves": _curves(paths, heads, history, metric, winner),
        "importances": _importances(compared, searched, epochs, metric),
        "slices": _slices(drawn, searched, metric),
        "parallel": _parallel(drawn, searched, metric),
        "confusion": _confusion(evaluation, info.get("classes")),
        "confusions": _confusions(evaluation),
        "classes": _class_tables(evaluation),
        "record": _record(run.folder, info, events),
    }


def paired_difference(predictions: Path, one: str, other: str) -> Paired | None:
    """By how much model `one` is right more often than `other` on the test images.

    The interval is Student's, for the mean of the paired differences of right (1) and wrong (0).

    Args:
        predictions: predictions.parquet.
        one, other: columns of it, e.g. "winner", "head".

    Returns: None where the file, one of the models or enough images (two) are missing.
    """
    if not predictions.is_file():
        return None
    frame = pd.read_parquet(predictions)
    frame = frame[frame["split"] == "test"]
    if not {one, other} <= set(frame) or len(frame) < 2:
        return None
    right = {name: np.stack(list(frame[name])).argmax(axis=1) == frame["label"].to_numpy() for name in (one, other)}
    differences = right[one].astype(float) - right[other].astype(float)
    return Paired(*mean_interval(differences, 0.95), len(differences))


def comparable(
    paths: pd.DataFrame, history: pd.DataFrame, events: Sequence[Event], metric: str
) -> tuple[pd.DataFrame, dict[int, list[str]], dict[int, int]]:
    """The trials of each level after as many epochs as all of them had, with what was searched.

    A trial that was promoted is trained longer, and better for it whatever its values: only what all had is comparable.
    Controls were not proposed, and are left out.

    Args:
        paths: as `charts.with_paths` gives them.
        history, events: of the run.
        metric: without its "val_".

    Returns: trial, level, depth, score and a column a searched value, by the name that it has in a stage; the names
        that were searched at each level; the epochs that its trials are compared after.
    """
    column = f"val_{metric}"
    asked = {event["trial"]: event.get("params", {}) for event in events if event["event"] == "trial"}
    known = history[history[column].notna()] if column in history else history.iloc[:0]
    curves = dict(list(known.groupby("trial")))
    proposed = paths[(paths["role"] != "control") & paths["trial"].isin(list(curves))]
    searched: dict[int, list[str]] = {}
    epochs: dict[int, int] = {}
    for level, trials in proposed.groupby("level")["trial"]:
        names = (name.removeprefix(f"schedule.{level}.") for trial in trials for name in asked.get(trial, {}))
        searched[level] = list(dict.fromkeys(names))
        epochs[level] = min(int(curves[trial]["epoch"].max()) for trial in trials)
    wanted = dict.fromkeys(name for names in searched.values() for name in names)
    rows = []
    for row in proposed.to_dict("records"):
        level, curve = row["level"], curves[row["trial"]]
        figures = curve[curve["epoch"] <= epochs[level]][column]
        score = figures.min() if metric in LOWER_IS_BETTER else figures.max()
        values = {name: _value(row, f"schedule.{level}.", name) for name in wanted}
        rows.append(values | {"trial": row["trial"], "level": level, "depth": int(row["depth"]), "score": score})
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(["trial", "level", "depth", "score", *wanted])))
    return table[table["score"].notna()], searched, epochs


def parameter_importances(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]]) -> dict[int, dict[str, float]]:
    """How much of the variance of the score each searched value explains, by functional ANOVA (Hutter et al. 2014).

    The space is taken to be what was tried: values between the least and the largest of each. Of a level of very many
    trials every second, third, … is taken: the best alone would hide what made the others worse.

    Args:
        compared, searched: as `comparable` gives them.

    Returns: level -> name -> share, the largest first; without levels of few trials, and those where all were alike.
    """
    found: dict[int, dict[str, float]] = {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for level, of_level in compared.groupby("level"):
            rows = of_level.iloc[:: -(-len(of_level) // _FOREST)]
            names = [n for n in searched[level] if rows[n].notna().all() and rows[n].astype(str).nunique() > 1]
            if len(rows) < _FEW or not names or rows["score"].nunique() < 2:
                continue
            distributions = {name: _distribution(rows[name]) for name in names}
            study = optuna.create_study()
            study.add_trials(
                [
                    create_trial(params={n: row[n] for n in names}, distributions=distributions, value=row["score"])
                    for row in rows.to_dict("records")
                ]
            )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            try:
                shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
            except RuntimeError:  # the forest saw no variance at all
                continue
            found[level] = {name: float(share) for name, share in shares.items()}
    finally:
        optuna.logging.set_verbosity(before)
    return found


def trained_parameters(folder: Path, trials: pd.DataFrame) -> list[float]:
    """How many numbers each trial trained at its depth, read from the headers of the checkpoints; NaN: none is left."""
    shape = ["depth", "pooling", "head.kind", "head.hidden_units"]
    counts: dict[tuple[Any, ...], float] = {}
    keys = [tuple(str(row.get(name)) for name in shape) for row in trials.to_dict("records")]
    for key, trial in zip(keys, trials["trial"], strict=True):
        path = folder / "checkpoints" / trial / "best.safetensors"
        if key not in counts and path.is_file():
            with safe_open(path, framework="numpy") as file:
                names = [name for name in file.keys() if not name.endswith(_BUFFERS)]  # noqa: SIM118 - no dictionary
                counts[key] = float(sum(math.prod(file.get_slice(name).get_shape()) for name in names))
    return [counts.get(key, math.nan) for key in keys]


def _state(folder: Path, events: Sequence[Event]) -> str:
    last = events[-1] if events else {"event": ""}
    again = f"go on with: {shlex.join(['python', '-m', 'raysearch.tune', '--resume', str(folder)])}"
    if last["event"] == "finished":
        return "The search is finished."
    if last["event"] == "interrupted":
        return f"The search was stopped ({last.get('reason', 'no reason given')}); {again}"
    return f"The search has not come to its end: it still runs, or was killed; then {again}"


def _answer(
    folder: Path,
    evaluation: Mapping[str, Any] | None,
    tables: Sequence[pd.DataFrame],
    winner: str | None,
    metric: str,
) -> dict[str, Any]:
    """The recipe in a sentence, the figures, and what they are to be held against."""
    rows = [row for table in tables for row in table[table["trial"] == winner].to_dict("records")]
    answer: dict[str, Any] = {"recipe": None, "figures": [], "models": None, "stages": None, "notes": []}
    if not rows:
        answer["recipe"] = "No trial has a figure yet, so there is no best recipe."
    else:
        answer["recipe"] = f"{winner}: {recipe_sentence(rows[0])}"
        answer["stages"] = _stages_table(rows[0])
    if evaluation is None:
        if rows:
            figure = rows[0].get(deciding(tables[0], metric))
            told = "" if figure is None or pd.isna(figure) else f", {_named(metric)} {figure:.4f}"
            answer["notes"].append(f"It is the best so far on the validation images{told}.")
        answer["notes"].append("The test images have not been read yet: that is done once, at the end of the search.")
        return answer
    models = []
    for key, label, trial, test in measured_models(evaluation):
        paired = paired_difference(folder / "predictions.parquet", "winner", key) if key != "winner" else None
        against = "" if paired is None else str(paired)
        trainings = str(len(test["accuracy"]["values"]))
        figures = [plus_minus(test["accuracy"]), plus_minus(test["macro_f1"])]
        models.append([label, trial, trainings, *figures, against])
        answer["figures"].append((label, _percent(test["accuracy"])))
        if paired is not None:
            answer["notes"].append(f"Against {label}: {paired}; {paired.verdict}.")
    columns = ["model", "trial", "trainings", "accuracy", "macro-F1", "the winner against it"]
    answer["models"] = Table(columns, models, frozenset({0, 1}))
    n = len(evaluation["test"]["accuracy"]["values"])
    if n > 1:
        answer["notes"].append(
            f"± is the standard deviation over {n} trainings of the winner with fresh seeds; the intervals are of the "
            "one of them that is in best/, image by image."
        )
    if evaluation.get("optimism") is not None:
        answer["notes"].append(
            f"The search flattered its winner by {evaluation['optimism']:+.4f}: its best validation {_named(metric)} "
            "against the mean over fresh seeds."
        )
    if evaluation.get("test_reads", 1) > 1:
        reads = evaluation["test_reads"]
        answer["notes"].append(f"The test images have been read {reads} times, so they are no longer quite unseen.")
    return answer


def recipe_sentence(row: Mapping[str, Any]) -> str:
    """A row of a trials table as a sentence."""
    stages: list[str] = []
    for values in stages_of(row).values():
        depth = int(values["depth"])
        opened = (
            "the head alone" if depth == 0 else f"the head and the last {'block' if depth == 1 else f'{depth} blocks'}"
        )
        rate = f"learning rate {cell(values.get('learning_rate'))}"
        if not missing(values.get("inherit")):
            rate = f"{cell(values['inherit'])} times the learning rate before"
        stages.append(f"{opened} for up to {int(values['epochs'])} epochs at {rate} ({values.get('course')})")
    if not stages:
        return "the log has lost its recipe."
    start = f"{row.get('backbone')} with {row.get('pooling')} pooling and a {row.get('head.kind')} head"
    return f"{start}, trained in {len(stages)} stage{'s' * (len(stages) != 1)}: {'; then '.join(stages)}."


def _stages_table(row: Mapping[str, Any]) -> Table:
    """The whole recipe, a column a stage."""
    stages = stages_of(row)
    names = dict.fromkeys(name for values in stages.values() for name in values)
    rows = [[name, *(cell(values.get(name)) for values in stages.values())] for name in names]
    return Table(["", *(f"stage {number}" for number in stages)], [one for one in rows if any(one[1:])])


def _counts(trials: pd.DataFrame, heads: pd.DataFrame, scored: int) -> list[str]:
    said = [f"{len(trials)} trials" + (f" and {len(heads)} heads" if len(heads) else "") + " were made."]
    states = trials["state"].value_counts()
    if len(states):
        said.append(f"Of the trials, {', '.join(f'{n} {state}' for state, n in states.items())}.")
    if scored > _MOST:
        said.append(f"The figures show the best {_MOST}.")
    return said


def _has_figures(trials: pd.DataFrame, metric: str) -> bool:
    column = deciding(trials, metric)
    return column in trials and bool(trials[column].notna().any())


def _tree(paths: pd.DataFrame, heads: pd.DataFrame, metric: str, winner: str | None, images: int | None) -> Plot | str:
    if not _has_figures(paths, metric):
        return "No trial has come to its first comparison, so there is nothing to compare yet."
    what = "level of the schedule tree" if paths["level"].nunique() > 1 else "depth"
    bar = ""
    if images and deciding(paths, metric) == "val_accuracy":
        bar = (
            f" The bar beside a column is the 95 % interval of its best (Wilson's, on {images} validation images): "
            "what another draw of images could have shown. The best of many is flattered besides."
        )
    return Plot(
        "tree",
        charts.schedule_tree(paths, heads, metric, winner, images),
        f"Validation {_named(metric)} of every trial by {what}, joined to what it started from",
        f"A point is a trial, at its {what}; a line leads from what it started from. The thick line is the path of the "
        f"winner.{bar}",
    )


def _verdicts(levels: Sequence[Event]) -> Plot | None:
    tested = [event for event in levels if "gain" in event]
    if not tested:
        return None
    return Plot(
        "verdicts",
        charts.verdicts(tested),
        "What opening each level gained against the same training without it",
        "Whether a level was worth opening: its leader against the same stage with no block opened, on validation "
        "images that chose nothing. All of the interval right of 0: a gain; if it spans 0, these images cannot tell.",
    )


def _best_table(best: pd.DataFrame, metric: str) -> Table | None:
    if not len(best):
        return None
    columns = ["trial", "parent", "role", "depth", "state", "epochs", "seconds", deciding(best, metric)]
    rows = [[cell(row[name]) for name in columns] for row in best.to_dict("records")]
    names = {"parent": "from", columns[-1]: f"validation {_named(metric)}"}
    return Table([names.get(name, name) for name in columns], rows, frozenset({0, 1, 2, 4}))


def _costs(folder: Path, paths: pd.DataFrame, metric: str) -> Plot | str:
    if not _has_figures(paths, metric):
        return "Accuracy against cost needs a trial that has come to its first comparison."
    table = paths.assign(parameters=trained_parameters(folder, paths))
    titles = {
        "path_seconds": "seconds of training, all stages",
        "parameters": "trained parameters",
        "depth": "depth",
    }
    views = {
        name: (title, name != "depth" and charts.spans_decades(table[name].dropna()))
        for name, title in titles.items()
        if table[name].notna().any()
    }
    missing = (
        "" if "parameters" in views else " How many parameters were trained is not known: no checkpoints are left."
    )
    return Plot(
        "costs",
        charts.costs(table, metric, views),
        f"Validation {_named(metric)} against cost",
        f"{'Lower' if metric in LOWER_IS_BETTER else 'Higher'} and further left is better; the line joins the trials "
        "that no other beats in both. The list above the figure changes the cost: seconds (of the whole path, its head "
        f"included), trained parameters, or depth.{missing}",
    )


def _curves(
    paths: pd.DataFrame, heads: pd.DataFrame, history: pd.DataFrame, metric: str, winner: str | None
) -> Plot | str:
    column = f"val_{metric}"
    trained = history[history["trial"].isin(paths["trial"])]
    if column not in history or not trained[column].notna().any():
        return "No trial has trained an epoch, so there are no learning curves."
    figure, drawn = charts.learning_curves(paths, heads, history, metric, winner)
    some = f" Of {len(paths)} trials the best {drawn} are drawn." if drawn < len(paths) else ""
    return Plot(
        "curves",
        figure,
        f"Validation {_named(metric)} of every trial by epoch",
        "A curve is a trial, coloured by its depth; an open square is where a stage begins, at what it started from; a "
        "triangle is where the learning rate of a plateau course was lowered. A click on the legend hides a depth."
        + some,
    )


def _importances(
    compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], epochs: Mapping[int, int], metric: str
) -> tuple[Plot, Table] | str:
    found = parameter_importances(compared, searched)
    if not found:
        return (
            f"Importances need {_FEW} trials of a level that differ in what was searched and in what came of it; "
            "there are not so many."
        )
    trials = compared["level"].value_counts()
    after = "; ".join(f"level {level}: {trials[level]} trials after {epochs[level]} epochs" for level in found)
    thinned = f" At most {_FOREST} of a level are looked at, at equal steps." if trials.max() > _FOREST else ""
    rows = [[str(level), name, f"{share:.3f}"] for level, shares in found.items() for name, share in shares.items()]
    plot = Plot(
        "importances",
        charts.importances(found),
        f"Share of the variance of validation {_named(metric)} that each hyperparameter explains",
        "The longer the bar, the more of the differences between trials this value explains (functional ANOVA over a "
        f"random forest). Trials are compared after as many epochs as all had ({after}). Of few trials it is a hint, "
        f"not a finding.{thinned}",
    )
    return plot, Table(["level", "hyperparameter", "importance"], rows, frozenset({1}))


def _slices(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], metric: str) -> list[Plot]:
    names = dict.fromkeys(name for names in searched.values() for name in names)
    return [
        Plot(f"slice-{i}", charts.parameter_slice(compared, name, metric), f"Validation {_named(metric)} by {name}")
        for i, name in enumerate(names)
        if compared[name].dropna().astype(str).nunique() > 1
    ]


def _parallel(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], metric: str) -> Plot | str:
    names = [
        name
        for name in dict.fromkeys(name for names in searched.values() for name in names)
        if name not in ("depth", "parent") and compared[name].notna().all() and compared[name].astype(str).nunique() > 1
    ]
    if len(compared) < 2 or not names:
        return "Parallel coordinates need two trials that differ in what was searched."
    return Plot(
        "parallel",
        charts.parallel_coordinates(compared, names, metric),
        f"The searched values of every trial and its validation {_named(metric)}",
        "A line is a trial, its colour the figure on the last axis. Drag along an axis to keep only the trials that "
        "pass there; drag an axis by its name to move it.",
    )


def _confusion(evaluation: Mapping[str, Any] | None, classes: Sequence[str] | None) -> Plot | str:
    matrix = (evaluation or {}).get("test", {}).get("confusion")
    if evaluation is None or matrix is None:
        return "The confusion matrix is made at the end of the search, when the test images are read."
    if len(matrix) > _MOST_CLASSES:
        return f"A picture of {len(matrix)} classes would not be readable; the most frequent confusions are below."
    models = len(evaluation["test"]["accuracy"]["values"])
    return Plot(
        "confusion",
        charts.confusion_matrix(_class_names(evaluation, classes), matrix),
        "Confusion matrix of the winner on the test images",
        "A row is a true class, a column what the winner called it; right answers are on the diagonal. The colour is "
        "the share of the row" + (f", the numbers are means over {models} trainings." if models > 1 else "."),
    )


def _confusions(evaluation: Mapping[str, Any] | None) -> Table | None:
    matrix = (evaluation or {}).get("test", {}).get("confusion")
    if evaluation is None or matrix is None:
        return None
    names = _class_names(evaluation, None)
    wrong = [
        (count, names[i], names[j]) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count
    ]
    worst = sorted(wrong, key=lambda one: -one[0])[:10]
    rows = [[true, taken, cell(round(float(count), 1))] for count, true, taken in worst]
    return Table(["true", "taken for", "images"], rows, frozenset({0, 1})) if rows else None


def _class_names(evaluation: Mapping[str, Any], classes: Sequence[str] | None) -> list[str]:
    return list(classes or evaluation["test"]["per_class"])


def _class_tables(evaluation: Mapping[str, Any] | None) -> Table | None:
    """Per-class figures of every split that was measured, side by side."""
    splits = [(label, (evaluation or {}).get(name, {}).get("per_class")) for name, label in _SPLITS]
    measured = [(label, per_class) for label, per_class in splits if per_class]
    if not measured:
        return None
    keys = ("precision", "recall", "f1", "support")
    columns = ["class", *(f"{label}: {'F1' if key == 'f1' else key}" for label, _ in measured for key in keys)]
    rows = [
        [name, *(_of_class(per_class.get(name, {}).get(key)) for _, per_class in measured for key in keys)]
        for name in measured[-1][1]
    ]
    return Table(columns, rows)


def _of_class(value: Any) -> str:
    return f"{value['mean']:.3f}" if isinstance(value, Mapping) else cell(value)


def _record(folder: Path, info: Mapping[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    """What was done: the command and all that a result depends on, what went wrong, what was decided on the way."""
    prints, weights, machine = (info.get(name, {}) for name in ("fingerprints", "weights", "machine"))
    facts = {
        "run": str(folder),
        "command": info.get("command"),
        "started": info.get("created"),
        "weights": f"{weights['origin']} ({weights['reason']})" if weights else None,
        "fingerprint of the images": prints.get("data"),
        "fingerprint of the weights": prints.get("weights"),
        "machine": ", ".join(f"{name} {value}" for name, value in machine.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items()),
    }
    settings = [[name, cell(value)] for name, value in info.get("settings", {}).items()]
    skipped = [[one["path"], one["reason"]] for one in info.get("skipped", [])]
    failed = [event for event in events if event["event"] in ("failed", "segment_lost", "refit_failed")]
    failures = [
        [event.get("trial", ""), event["event"].replace("_", " "), str(event.get("error", event.get("reason", "")))]
        for event in failed
    ]
    cache = info.get("cache") or {}
    return {
        "facts": [(name, value) for name, value in facts.items() if value],
        "settings": Table(["setting", "value"], settings, frozenset({0, 1})) if settings else None,
        "cache": cache.get("lines", []),
        "outcome": _cache_outcome(cache.get("outcome") or {}),
        "skipped": Table(["image", "why"], skipped[:_LISTED], frozenset({0, 1})) if skipped else None,
        "skipped_count": len(skipped),
        "failures": Table(["trial", "what", "why"], failures[:_LISTED], frozenset({0, 1, 2})) if failures else None,
        "failures_count": len(failures),
    }


def _cache_outcome(outcome: Mapping[str, Mapping[str, Any]]) -> Table | None:
    keys = ("way", "epochs", "predicted_train_seconds", "train_seconds", "predicted_fill_seconds", "fill_seconds")
    if not outcome:
        return None
    rows = [[depth, *(cell(one.get(key)) for key in keys)] for depth, one in outcome.items()]
    return Table(["depth", *(key.replace("_", " ") for key in keys)], rows, frozenset({1}))


def _images(folder: Path, levels: Sequence[Event]) -> int | None:
    """How many validation images the trials were compared on; None where the run does not say it yet."""
    path = folder / "predictions.parquet"
    if not path.is_file():
        return None
    splits = pd.read_parquet(path, columns=["split"])["split"]
    return int((splits == "val").sum()) - max((event.get("images", 0) for event in levels), default=0)


def _value(row: Mapping[str, Any], stage: str, name: str) -> Any:
    """A searched value as it was trained with: what the recipe says; a choice of nothing is a choice too."""
    value = row.get(f"{stage}{name}", row.get(name))
    return "none" if missing(value) else value


def _distribution(values: pd.Series) -> BaseDistribution:
    if not charts.is_number(values):
        return CategoricalDistribution(sorted({*values}, key=str))
    return FloatDistribution(values.min(), values.max(), log=charts.spans_decades(values))


def _percent(spread: Mapping[str, Any]) -> str:
    return f"{100 * spread['mean']:.1f} %" + ("" if spread["std"] is None else f" ± {100 * spread['std']:.1f}")


def _named(metric: str) -> str:
    return metric.replace("_", " ")
