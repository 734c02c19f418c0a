"""What the log says of one trial so far, as a tracker shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from raysearch.record.trial import Event
from raysearch.storage.files import plain

_NO_FIGURES = frozenset({"event", "time", "trial", "epoch"})


@dataclass
class Story:
    """One trial or head, as far as the log tells it."""

    made: Event
    """Its "trial" event."""
    rows: dict[int, Event] = field(default_factory=dict)
    """The figures of its epochs, by epoch; one that was trained again has the later ones."""
    state: str = "waiting"
    best: Event | None = None
    """The row of its best epoch, once a segment has ended."""
    seconds: float = 0.0
    handover_delta: float | None = None
    error: str | None = None
    is_parent: bool = False
    """Whether a trial starts from it."""

    @property
    def name(self) -> str:
        """Of the trial."""
        return str(self.made["trial"])

    @property
    def is_head(self) -> bool:
        """Whether it belongs to the head search."""
        return self.name.startswith("h")

    @property
    def at_rest(self) -> bool:
        """Nothing more is known to come: it was stopped, is done or failed. (One that was stopped may go on later.)"""
        return self.state in ("stopped", "done", "failed")

    @property
    def told(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.rows) or self.state == "failed"

    def config(self) -> dict[str, Any]:
        """The recipe, and where the trial stands in the search; lists by index, as {"schedule": {"0": {…}}}.

        Flattened, its keys are the recipe's columns in trials.csv. They are not dotted names, which W&B advises against
        (its pages make dotted names of nested ones themselves).
        """
        place = {key: self.made.get(key) for key in ("trial", "parent", "depth", "role")}
        return numbered(self.made["recipe"]) | place

    def summary(self) -> dict[str, Any]:
        """The figures of the best epoch, and how the trial ended."""
        best = self.best or {}
        ended = {
            "state": self.state,
            "epochs": max(self.rows, default=0),
            "best_epoch": best.get("epoch"),
            "trial_seconds": round(self.seconds, 3),
            "handover_delta": self.handover_delta,
            "error": self.error,
        }
        return figures(best) | {key: value for key, value in ended.items() if value is not None}

    def take(self, event: Event) -> None:
        """An event of this trial."""
        match event["event"]:
            case "segment":
                self.state = "running"
            case "epoch":
                self.rows[event["epoch"]] = figures(event)
            case "handover":
                self.handover_delta = event["delta"]
            case "segment_end":
                self.state = "done" if event["finished"] else "stopped"
                self.best, self.seconds = event["best"], self.seconds + event["seconds"]
            case "segment_lost" | "segment_paused" | "promoted":
                self.state = "waiting"
            case "failed":
                self.state, self.error = "failed", event["error"]


class Stories:
    """All trials of a log by name, in the order in which they were made."""

    def __init__(self) -> None:
        self.all: dict[str, Story] = {}

    def take(self, event: Event) -> Story | None:
        """The trial that the event tells something new of, if it is of one."""
        name = event.get("trial")
        if event["event"] == "trial":
            self.all[event["trial"]] = Story(event)
            if event["parent"] in self.all:
                self.all[event["parent"]].is_parent = True
                return self.all[event["parent"]]
        story = self.all.get(name) if isinstance(name, str) else None
        if story is not None:
            story.take(event)
        return story


def figures(row: Event) -> dict[str, Any]:
    """An epoch's figures, without those that are no numbers."""
    return {
        key: value
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
