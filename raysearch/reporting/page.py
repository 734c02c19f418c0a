"""The report page: one HTML file with everything that a run found, which loads nothing and can be sent to anybody.

    write_page(Run.open("fine_tune-20250102-030405"))       # <run>/report.html

It is made from the run folder as it stands, so a search that still runs, or was cut short, has a page too: what cannot
be shown is left out with a sentence.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from raysearch.record.events import Event
from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal
from raysearch.record.tables import ancestry, history_table, leaders
from raysearch.record.trial import State
from raysearch.reporting import classes, hyperparameters, trials
from raysearch.reporting.answer import Answer, answer_section
from raysearch.reporting.ceiling import warnings_of
from raysearch.reporting.compare import comparable, contrasts
from raysearch.reporting.continued import continued_sentences, continued_table
from raysearch.reporting.elements import Plot, Table
from raysearch.reporting.front import Front, front_section
from raysearch.reporting.gallery import gallery
from raysearch.reporting.networks import Networks, networks_section
from raysearch.reporting.origins import origin_lines, origins_table
from raysearch.reporting.paths import with_paths
from raysearch.reporting.record import Record, record_section
from raysearch.reporting.sentences import verdict_line
from raysearch.reporting.shipped import Finals, Sureness, finals_section, sureness_section
from raysearch.storage.files import replace_text

_MOST = 500  # trials in a figure
_PAGE_BYTES = 5_900_000  # and a page of 6 MB can still be sent by mail; pictures get what the rest leaves


def write_page(run: RunFolder) -> Path:
    """Write `report.html` into the run folder, replacing it at once.

    Returns: its path.

    Raises:
        InputError: `run.json` or `evaluation.json` cannot be read.
    """
    path = run.folder / "report.html"
    replace_text(path, page_text(run))
    return path


def page_text(run: RunFolder) -> str:
    """The page, HTML."""
    return whole_page(run.folder.resolve().name, content_text(run))


def content_text(run: RunFolder) -> str:
    """What of the page changes while a search runs: its header and sections, HTML."""
    template, content = _environment().get_template("content.html.j2"), page_content(run)
    without_pictures = template.render(content, pictures=None)
    room = _PAGE_BYTES - len(get_plotlyjs().encode()) - len(without_pictures.encode())
    return template.render(content, pictures=gallery(run.folder, room))


def whole_page(name: str, content: str, *, live: str = "") -> str:
    """The page around what `content_text` gives.

    Args:
        name: of the run.
        content: HTML.
        live: its version, if the page is to ask who served it for news (see `raysearch.reporting.serve`).
    """
    template = _environment().get_template("page.html.j2")
    return template.render(name=name, content=content, plotly=get_plotlyjs(), live=live)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("raysearch", "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class PageContent(TypedDict):
    """What the template shows, by section; a sentence stands in place of what there is nothing to show of."""

    name: str
    metric: str
    state: str
    answer: Answer
    warnings: list[str]
    continued: Table | None
    continued_lines: list[str]
    finals: Finals
    sureness: Sureness
    networks: Networks | None
    origins: Table | None
    origin_lines: list[str]
    counts: list[str]
    front: Front | None
    tree: Plot | str
    verdicts: Plot | None
    verdict_lines: list[str]
    best: Table | None
    costs: Plot | str
    curves: Plot | str
    range_tests: Plot | None
    importances: tuple[Plot, Table] | str
    slices: list[Plot]
    parallel: Plot | str
    confusion: Plot | str
    confusions: Table | None
    classes: Table | None
    contrasts: Table | None
    record: Record


def page_content(run: RunFolder) -> PageContent:
    """The run, as the page shows it; its pictures are added as far as there is room."""
    events, info, evaluation, prior = run.events(), run.info, run.evaluation, run.prior
    metric = info.get("settings", {}).get("metric", "accuracy")
    made, heads, history = run.trials, run.heads, history_table(events)
    if not len(made):  # heads were all that was searched, or all that it came to
        made, heads = heads, heads.iloc[:0]
    paths = with_paths(made[made["state"] != State.FAILED], heads)
    require = info.get("settings", {}).get("require", ())
    scored = leaders(paths, metric, len(paths), require)
    best = scored.head(_MOST)
    leader = next(iter([*best["trial"], *leaders(heads, metric, 1, require)["trial"]]), None)
    winner = evaluation["trial"] if evaluation is not None else leader
    shown = paths[paths["trial"].isin({*best["trial"], *ancestry(winner, [paths, heads])})]
    levels = list({event["level"]: event for event in events if event["event"] == "level"}.values())
    compared, searched, epochs = comparable(paths, history, events, metric)
    drawn = compared[compared["trial"].isin(shown["trial"])]
    images = trials.compared_images(run.folder, levels)
    halved = any(event.get("images") for event in levels)
    counts = {} if halved or images is None else info.get("intake", {}).get("counts", {}).get("val", {})
    known = {} if images is None else {name: n * images.independent / images.number for name, n in counts.items()}
    return {
        "name": run.folder.resolve().name,
        "metric": metric,
        "state": _state(run.folder, events),
        "answer": answer_section(
            run.folder, evaluation, [paths, heads], events, winner, metric, info.get("intake", {})
        ),
        "warnings": warnings_of(made, metric, images, evaluation),
        "continued": None if evaluation is None else continued_table(evaluation),
        "continued_lines": [] if evaluation is None else continued_sentences(evaluation),
        "finals": finals_section(events, evaluation, metric),
        "sureness": sureness_section(evaluation),
        "networks": networks_section(info, events, run.trials, metric, require),
        "origins": origins_table(prior),
        "origin_lines": origin_lines(events, prior, winner),
        "counts": _counts(made, heads, len(scored)),
        "front": front_section(made, Goal.of(metric, require), winner, known, str(run.folder)),
        "tree": trials.tree_figure(shown, heads, metric, winner, images),
        "verdicts": trials.verdicts_figure(levels),
        "verdict_lines": [verdict_line(event) for event in levels],
        "best": trials.best_table(best.head(10), metric),
        "costs": trials.costs_figure(run.folder, shown, metric),
        "curves": trials.curves_figure(paths, heads, history, metric, winner),
        "range_tests": trials.range_tests_figure([event for event in events if event["event"] == "lr_find"]),
        "importances": hyperparameters.importances_section(compared, searched, epochs, metric),
        "slices": hyperparameters.slice_figures(drawn, searched, metric),
        "parallel": hyperparameters.parallel_figure(drawn, searched, metric),
        "confusion": classes.confusion_figure(evaluation, info.get("classes")),
        "confusions": classes.confusions_table(evaluation),
        "classes": classes.class_table(evaluation),
        "contrasts": hyperparameters.contrasts_table(contrasts(compared, paths), metric),
        "record": record_section(run.folder, info, events),
    }


def _state(folder: Path, events: Sequence[Event]) -> str:
    last = events[-1] if events else {"event": ""}
    again = f"go on with: {shlex.join(['python', '-m', 'raysearch.tune', '--resume', str(folder)])}"
    if last["event"] == "finished":
        return "The search is finished."
    if last["event"] == "interrupted":
        return f"The search was stopped ({last.get('reason', 'no reason given')}); {again}"
    return f"The search has not come to its end: it still runs, or was killed; then {again}"


def _counts(made: pd.DataFrame, heads: pd.DataFrame, scored: int) -> list[str]:
    said = [f"{len(made)} trials" + (f" and {len(heads)} heads" if len(heads) else "") + " were made."]
    states = made["state"].value_counts()
    if len(states):
        said.append(f"Of the trials, {', '.join(f'{n} {state}' for state, n in states.items())}.")
    if scored > _MOST:
        said.append(f"The figures show the best {_MOST}.")
    return said
