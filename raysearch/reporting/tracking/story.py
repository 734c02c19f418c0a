"""What the log says of each trial so far, with the figures of all its epochs, for a tracker to show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from raysearch.record.events import Event, row_of
from raysearch.record.info import Json
from raysearch.record.line import Row
from raysearch.record.metric import tracked_name
from raysearch.record.trial import Trial, Trials
from raysearch.storage.files import plain

_NO_FIGURES = frozenset({"event", "time", "trial", "epoch"})


@dataclass
class Story:
    """One trial or head, and the figures of its epochs."""

    trial: Trial
    """What the log says of it."""
    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    """The figures of its epochs, by epoch; one that was trained again has the later ones."""
    is_parent: bool = False
    """Whether a trial starts from it."""

    @property
    def name(self) -> str:
        """The trial's."""
        return self.trial.name

    @property
    def told(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.rows) or self.trial.failed

    def config(self) -> Json:
        """The recipe, and where the trial stands in the search; lists by index, as {"schedule": {"0": {…}}}.

        Flattened, its keys are the recipe's columns in trials.csv. They are not dotted names, which W&B advises against
        (its pages make dotted names of nested ones themselves).
        """
        trial = self.trial
        place = {"trial": trial.name, "parent": trial.parent, "depth": trial.depth, "role": trial.role}
        return numbered(trial.written_recipe) | place

    def summary(self) -> Json:
        """The figures of the best epoch, and how the trial ended."""
        trial, best = self.trial, self.trial.best or {}
        ended = {
            "state": trial.state.value,
            "epochs": trial.trained,
            "best_epoch": best.get("epoch"),
            "trial_seconds": round(trial.seconds, 3),
            "handover_delta": trial.handover_delta,
            "error": trial.error,
        }
        return figures(best) | {key: value for key, value in ended.items() if value is not None}


class Stories:
    """All trials of a log by name, in the order in which they were made."""

    def __init__(self) -> None:
        self.all: dict[str, Story] = {}
        self._trials = Trials()

    def take(self, event: Event) -> list[Story]:
        """The trials that the event tells something new of."""
        trials = self._trials.take(event)
        if event["event"] == "trial":
            self.all |= {trial.name: Story(trial) for trial in trials}
        told = [self.all[trial.name] for trial in trials]
        if event["event"] == "epoch":
            for story in told:
                story.rows[event["epoch"]] = figures(row_of(event))
        if event["event"] == "trial" and (parent := self.all.get(event["parent"] or "")) is not None:
            parent.is_parent = True
            told.append(parent)
        return told


def figures(row: Row) -> dict[str, float]:
    """An epoch's figures, without those that are no numbers, by the names that trackers can have."""
    return {
        tracked_name(key): value
        for key, value in plain(row).items()
        if key not in _NO_FIGURES and isinstance(value, int | float) and math.isfinite(value)
    }


def numbered(tree: Any) -> Any:
    """The tree with its lists as dicts by index: {"a": [{"b": 1}]} -> {"a": {"0": {"b": 1}}}."""
    if isinstance(tree, dict):
        return {str(key): numbered(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return {str(index): numbered(value) for index, value in enumerate(tree)}
    return tree
