"""What a search says on the terminal: one live view while it runs, and the summary at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raysearch.record.tables import STATES, deciding, leaders, recipe_columns, varying
from raysearch.reporting.incidents import incidents

_STYLES = {"waiting": "dim", "running": "cyan", "stopped": "yellow", "done": "green", "failed": "red"}
_PLAIN_EVERY_SECONDS = 10.0
_SHOWN = 10

MODELS = (("winner", "the winner"), ("default", "the default recipe"), ("head", "the best head alone"))
"""The three models that are measured on the test split, in the order in which they are shown."""


@dataclass(frozen=True)
class Leader:
    """The best trial so far."""

    trial: str
    metric: str
    value: float
    """Its best validation figure."""
    params: Mapping[str, Any]
    """What was sampled for it, name to value."""


class LiveView:
    """The state of a search, redrawn in place; plain lines where the output is not a terminal.

    Use it as a context manager. `update` may be called as often as one likes; it draws four times a second, and the
    clock goes on between updates.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console()
        self._clock = clock
        self._said_at: float | None = None
        self._panel: Callable[[], RenderableType] = Text
        self._live: Live | None = None
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=lambda: self._panel(), refresh_per_second=4, transient=True
            )

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self,
        counts: Mapping[str, int],
        best: Leader | None,
        elapsed: float,
        left: float | None,
        activity: Sequence[str] | str = (),
    ) -> None:
        """Shows how the search stands.

        Args:
            counts: trials in each state.
            best: the best trial so far; None before the first result.
            elapsed: seconds since the start.
            left: seconds left, as estimated or given by the budget; None if nobody can say.
            activity: what is being done now, a line each.
        """
        lines = [activity] if isinstance(activity, str) else list(activity)
        now = self._clock()
        if self._live is not None:

            def panel() -> RenderableType:
                since = self._clock() - now
                return _panel(counts, best, elapsed + since, None if left is None else left - since, lines)

            self._panel = panel
            return
        if self._said_at is not None and now - self._said_at < _PLAIN_EVERY_SECONDS:
            return
        self._said_at = now
        numbers = ", ".join(f"{counts.get(state, 0)} {state}" for state in STATES)
        leader = "" if best is None else f"; best {best.trial} {best.metric} {best.value:.4f}"
        doing = f"; {', '.join(lines)}" if lines else ""
        self._say(f"[{_duration(elapsed)}, {_left(left)}] {numbers}{leader}{doing}")

    def line(self, message: str) -> None:
        """Says something that is news only where there is no live view to show it."""
        if self._live is None:
            self._say(message)

    def note(self, message: str) -> None:
        """Says something that should stay: above the live view, or as a line."""
        self._say(message)

    def _say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)


def segment_line(event: Mapping[str, Any]) -> str:
    """A "segment_end" event as a sentence."""
    best = event.get("best") or {}
    figures = ", ".join(
        f"{name.removeprefix('val_')} {best[name]:.4f}"
        for name in ("val_accuracy", "val_loss")
        if best.get(name) is not None
    )
    end = "done" if event["finished"] else "stopped"
    return f"{event['trial']} {end} after epoch {event['epoch']} ({event['seconds']:.1f} s): {figures or 'no figures'}"


def verdict_line(event: Mapping[str, Any]) -> str:
    """A "level" event as a sentence."""
    opening, before = f"opening {'+'.join(event['opened']) or 'nothing'}", event["before"]
    if event["verdict"] == "untested":
        return f"{opening}: the best is {event['leader']}; not tested"
    longer = f"with {'+'.join(before)} open" if before else "the head alone"
    figures = f"{event['gain']:+.4f} log-loss [{event['low']:+.4f}, {event['high']:+.4f}]"
    end = {
        "gain": "a gain",
        "none": f"no gain; the search stops there, and the best is {'+'.join(before) or 'the head alone'}",
        "undecided": f"undecided on {event['images']} images; the search goes on while it has trials",
    }
    return f"{opening}: {figures} against training longer {longer}: {end[event['verdict']]}"


class FinishedRun(Protocol):
    """What the summary reads of a run (see `raysearch.run.Run`)."""

    folder: Path

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial."""

    @property
    def heads(self) -> pd.DataFrame:
        """A row a head."""

    @property
    def info(self) -> dict[str, Any]:
        """run.json."""

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """evaluation.json."""

    def events(self) -> list[dict[str, Any]]:
        """The log."""


def summary(run: FinishedRun, console: Console | None = None) -> None:
    """Prints the ten best recipes, the evaluation, what was skipped or failed, and where the run is."""
    console = console or Console()
    metric = run.info.get("settings", {}).get("metric", "accuracy")
    trials, what = run.trials, "recipes"
    if not len(trials):  # heads were all that was searched, or all that it came to
        trials, what = run.heads, "heads"
    rows = leaders(trials, metric, _SHOWN)
    how = "cross-validated" if deciding(trials, metric).startswith("cv_") else "validation"
    _heading(console, f"The best {len(rows)} of {len(trials)} {what}, by {how} {metric}")
    console.print(best_recipes(trials, metric))
    if levels := [event for event in run.events() if event["event"] == "level"]:
        _heading(console, "Whether it was worth going deeper, on validation images that chose nothing")
        for event in {event["level"]: event for event in levels}.values():
            console.print(verdict_line(event), highlight=False, soft_wrap=True)
    if run.evaluation is not None:
        _heading(console, "On the test images, which nothing has seen before")
        console.print(evaluation_table(run.evaluation))
        optimism = run.evaluation.get("optimism")
        if optimism is not None:
            console.print(
                f"Optimism of the search: {optimism:+.4f} "
                f"(its best validation {metric} minus the mean over fresh seeds of the same recipe)",
                highlight=False,
            )
    else:
        console.print("There is no final evaluation yet.")
    skipped, failed = run.info.get("skipped", []), int((trials["state"] == "failed").sum())
    if skipped:
        console.print(f"[yellow]{len(skipped)} unreadable image(s) skipped[/], listed in run.json, e.g. ", end="")
        console.print(_skipped(skipped[0]), markup=False, highlight=False)
    for incident in incidents(run.events()):
        console.print(incident, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if failed:
        console.print(f"[red]{failed} of the {what} failed[/]; why is in log.jsonl", highlight=False)
    console.print(Text(f"The run is in {run.folder}", style="bold"), soft_wrap=True)


def best_recipes(trials: pd.DataFrame, metric: str, n: int = _SHOWN) -> Table:
    """The `n` best trials, as `recipes_table`."""
    return recipes_table(leaders(trials, metric, n), trials, metric, ("trial", "parent", "depth", "epochs"))


def recipes_table(rows: pd.DataFrame, among: pd.DataFrame, metric: str, columns: Sequence[str]) -> Table:
    """A row a trial; of its recipe, what its own stage has and what differs between trials, as name=value.

    What it started from is not spelled out: its parent's name is enough, it is another row.

    Args:
        rows: of a trials or heads table.
        among: the whole table.
        metric: the figure that is shown.
        columns: of the table, to be shown first.
    """
    names = [name for name in varying(among, recipe_columns(among)) if name != "seed" and not name.endswith(".depth")]
    figure = deciding(among, metric)
    table = Table()
    for name in (*columns, metric):
        left = name in ("trial", "parent", "state", "role")
        table.add_column("from" if name == "parent" else name, justify="left" if left else "right", no_wrap=True)
    table.add_column("recipe", overflow="fold")
    for row in rows.to_dict("records"):
        own = max((int(name.split(".")[1]) for name in row if name.endswith(".depth") and _value(row[name])), default=0)
        stage = f"schedule.{own}."
        shown = [name for name in names if name.startswith(stage) or not name.startswith("schedule.")]
        recipe = [f"{name.removeprefix(stage)}={_value(row[name])}" for name in shown if _value(row[name])]
        best = row.get(figure)
        fixed = [_value(row[name]) for name in columns]
        table.add_row(*fixed, "" if best is None or pd.isna(best) else f"{best:.4f}", Text("  ".join(recipe)))
    return table


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """The test figures of the winner, the default recipe and the best head, from evaluation.json."""
    table = Table()
    table.add_column("model")
    for name in ("trial", "models", "accuracy", "macro-F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for _, label, trial, test in measured_models(evaluation):
        figures = [plus_minus(test["accuracy"]), plus_minus(test["macro_f1"])]
        table.add_row(label, trial, str(len(test["accuracy"]["values"])), *figures)
    return table


def measured_models(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """Of each model of `MODELS` that evaluation.json has: key, label, trial, and its figures on the test images."""
    found = {"winner": {"trial": evaluation.get("trial"), "test": evaluation["test"]}, **evaluation.get("others", {})}
    return [(key, label, found[key]["trial"] or "", found[key]["test"]) for key, label in MODELS if key in found]


def plus_minus(spread: Mapping[str, Any]) -> str:
    """{"mean", "std", "values"} as "0.6813 ± 0.0042"; without the spread where there is one value."""
    return f"{spread['mean']:.4f}" + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")


def _heading(console: Console, text: str) -> None:
    # Not a table's title: rich wraps that to the width of the table.
    console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)


def _panel(
    counts: Mapping[str, int], best: Leader | None, elapsed: float, left: float | None, lines: Sequence[str]
) -> RenderableType:
    numbers = Text.assemble("Trials  ")
    for state in STATES:
        numbers.append(f"{counts.get(state, 0)} {state}   ", style=_STYLES[state])
    numbers.append(f"{_duration(elapsed)} gone, {_left(left)}")
    parts: list[RenderableType] = [numbers]
    if best is not None:
        recipe = "  ".join(f"{name}={_value(value)}" for name, value in best.params.items())
        parts.append(
            Text.assemble("Best    ", (f"{best.trial} {best.metric} {best.value:.4f}", "bold green"), f"  {recipe}")
        )
    parts += [Text(f"{'Now' if i == 0 else '':8}{line}") for i, line in enumerate(lines)]
    return Group(*parts)


def _value(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"
    return str(value)


def _skipped(entry: Any) -> str:
    return f"{entry['path']}: {entry['reason']}" if isinstance(entry, Mapping) else str(entry)


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{_duration(max(0.0, seconds))} left"


def _duration(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
