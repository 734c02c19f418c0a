"""Whoever reads a log says the same of every trial, after every event: controller, tables, display and trackers."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.pipeline.effort import Effort
from raysearch.pipeline.pace import Pace
from raysearch.pipeline.progress import Progress
from raysearch.record.events import Event
from raysearch.record.tables import heads_table, trials_table
from raysearch.record.trial import State
from raysearch.reporting.tracking.story import Stories
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from raysearch.search.state import SearchState
from tests.reporting.events import end, epoch, row, segment, trial
from tests.search.simulated import Play
from tests.search.test_controller import search, searches

RULES = Rules(rungs=(2, 4), reduction=2)


def head(name: str) -> dict[str, Any]:
    return trial(name) | {"pack": 0}


def lost(name: str, number: int, cause: str) -> dict[str, Any]:
    about = {"worker": "a1", "reason": "gone", "cause": cause}
    return {"event": "segment_lost", "trial": name, "segment": f"{name}.{number}", **about}


def paused(name: str, number: int) -> dict[str, Any]:
    return {"event": "segment_paused", "trial": name, "segment": f"{name}.{number}", "reason": "the driver ended"}


STANDS = {"network": "simple_cnn", "head": "h0000", "figure": 0.5, "behind": None, "stays": True}
EVERYTHING: list[dict[str, Any]] = [
    {"event": "budget", "heads": 2, "trials": 6, "max_epochs": 4},
    head("h0000"),
    head("h0001"),
    segment("h0000") | {"pack": 0},
    segment("h0001") | {"pack": 0},
    {"event": "waiting", "trial": "h0000", "needs": "1 GPU"},
    {"event": "waiting", "trial": "h0001", "needs": "1 GPU"},
    {"event": "placed", "trial": "h0000"},
    {"event": "placed", "trial": "h0001"},
    epoch("h0000", 1, 0.4),
    epoch("h0001", 1, 0.3),
    end("h0001", 1, row(1, 0.3), 1),
    epoch("h0000", 2, 0.5),
    end("h0000", 1, row(2, 0.5), 2, finished=True),
    {"event": "networks", "heads": 2, "images": 20, "confidence": 0.95, "networks": [STANDS]},
    {"event": "lr_find", "level": 1, "start": "h0000", "depths": {"1": {"low": 1e-4, "high": 1e-2}}},
    trial("t0000", "h0000") | {"role": "default"},
    segment("t0000"),
    {"event": "waiting", "trial": "t0000", "needs": "1 GPU and 4 CPUs"},
    trial("t0001", "h0000"),
    segment("t0001"),
    {"event": "handover", "trial": "t0001", "stage": 1, "delta": 1e-7},
    epoch("t0001", 1, 0.6),
    epoch("t0001", 2, 0.5),
    lost("t0001", 1, "process"),
    segment("t0001", 2),
    epoch("t0001", 1, 0.61),
    {"event": "storage_refuses", "trial": "t0001", "error": "disk full"},
    {"event": "storage_refused", "trial": "t0001", "error": "disk full", "seconds": 2.0},
    epoch("t0001", 2, 0.55),
    end("t0001", 2, row(1, 0.61), 2),
    lost("t0000", 1, "machine"),
    segment("t0000", 2),
    {"event": "waiting", "trial": "t0000", "needs": "1 GPU and 4 CPUs"},
    paused("t0000", 2),
    segment("t0000", 3),
    epoch("t0000", 1, 0.7),
    epoch("t0000", 2, 0.8),
    end("t0000", 3, row(2, 0.8), 2),
    {"event": "promoted", "trial": "t0000"},
    segment("t0000", 4, 2, 4),
    epoch("t0000", 3, 0.75),
    {"event": "dropped", "trial": "t0001"},
    trial("t0002", "h0000"),
    segment("t0002"),
    {"event": "waiting", "trial": "t0002", "needs": "1 GPU and 4 CPUs"},
    {"event": "failed", "trial": "t0002", "error": "lost 4 times, the last time: gone"},
    trial("t0003", "h0000"),
    segment("t0003"),
    epoch("t0003", 1, 0.2),
    {"event": "interrupted", "reason": "Ctrl-C"},
    segment("t0000", 5, 2, 4),
    epoch("t0000", 3, 0.76),
    epoch("t0000", 4, 0.81),
    end("t0000", 5, row(4, 0.81), 4, finished=True),
    segment("t0003", 2),
    epoch("t0003", 1, 0.3),
    epoch("t0003", 2, 0.3),
    end("t0003", 2, row(2, 0.3), 2),
    {
        "event": "level",
        "level": 1,
        "leader": "t0000",
        "control": None,
        "opened": [],
        "before": [],
        "verdict": "untested",
    },
    {"event": "finals", "finalists": ["t0000", "t0003"], "confidence": 0.9, "folds": 2, "refits": 2},
    {"event": "fold", "trial": "t0003", "seed": 1000, "fold": 1, "of": 2, "best": row(4, 0.8), "seconds": 1.0},
    {"event": "student", "trial": "t0003", "fold": 1, "teachers": [], "unlabelled": 9, "best": None, "seconds": 1.0},
    {"event": "race", "against": "t0000", "trial": "t0003", "folds": 1, "goes_on": False, "mean": -0.1},
    {"event": "refit_lost", "reason": "gone"},
    {"event": "refit", "trial": "t0000", "seed": 1000, "recipe": {}, "best": row(4, 0.8), "seconds": 1.0},
    {"event": "refit_failed", "trial": "t0000", "seed": 1001, "error": "loss is nan"},
    {"event": "chosen", "trial": "t0000", "default": "t0000", "shipped": "single", "points": []},
    {"event": "test_read", "winner": "t0000"},
    {"event": "finished"},
]


class View:
    """A display that remembers what it shows now."""

    def __init__(self) -> None:
        self.counts: dict[State, int] = {}
        self.activity: list[str] = []

    def update(self, counts, best, elapsed, left, activity=()) -> None:
        self.counts, self.activity = dict(counts), list(activity)

    def note(self, message: str) -> None: ...

    def line(self, message: str) -> None: ...


EFFORT = Effort(folds=0, challengers=0, seeds=0, refits=1, on="train")


def job() -> Any:
    """What the display asks of a job."""
    wanted = SimpleNamespace(metric="accuracy", time_budget=None)
    return SimpleNamespace(settings=wanted, rules=RULES, machine=SimpleNamespace(concurrent=2))


def tables(log: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What both tables say, by trial."""
    rows = [one for table in (heads_table(log), trials_table(log)) for one in table.to_dict("records")]
    about = ("state", "epochs", "seconds", "handover_delta", "best_epoch")
    return {one["trial"]: {key: None if pd.isna(one[key]) else one[key] for key in about} for one in rows}


def of_state(state: SearchState) -> dict[str, dict[str, Any]]:
    """What the controller goes by, by trial."""
    return {
        one.name: {
            "state": one.state,
            "epochs": one.trained,
            "seconds": one.seconds,
            "handover_delta": one.handover_delta,
            "best_epoch": one.best["epoch"] if one.best else None,
        }
        for one in state.trials.values()
    }


def of_stories(stories: Stories) -> dict[str, dict[str, Any]]:
    """What trackers show, by trial."""
    told = {name: story.summary() for name, story in stories.all.items()}
    names = {"state": "state", "epochs": "epochs", "seconds": "trial_seconds", "handover_delta": "handover_delta"}
    return {
        name: {key: one.get(theirs) for key, theirs in names.items()} | {"best_epoch": one.get("best_epoch")}
        for name, one in told.items()
    }


def test_after_every_event_all_readers_say_the_same_of_every_trial():
    controller, stories, view = Controller(RULES, None), Stories(), View()
    progress = Progress(job(), controller, view, Pace(controller, 2, EFFORT, 1), began=0.0)
    for number, event in enumerate(EVERYTHING, start=1):
        controller.apply(event)
        stories.take(event)
        progress.take(event)
        expected = tables(EVERYTHING[:number])
        assert of_state(controller) == expected, event
        assert of_stories(stories) == expected, event
        counts = Counter(one["state"] for name, one in expected.items() if name.startswith("t"))
        counts["waiting"] += 6 - counts.total()
        assert {state: count for state, count in view.counts.items() if count} == +counts, event
        told = [line.split()[0] for line in view.activity if line.startswith("t") and " waits for " not in line]
        assert told == [name for name, one in expected.items() if name[0] == "t" and one["state"] == "running"], event


def test_the_log_has_every_kind_of_event():
    kinds = {get_args(get_type_hints(kind)["event"])[0] for kind in get_args(Event)}
    assert {event["event"] for event in EVERYTHING} == kinds


@pytest.mark.parametrize("state", State)
def test_the_log_has_every_state(state):
    seen = {one["state"] for n in range(len(EVERYTHING)) for one in tables(EVERYTHING[: n + 1]).values()}
    assert state in seen


def test_a_trial_that_waits_for_its_machine_is_waiting_for_everybody():
    at = next(n for n, event in enumerate(EVERYTHING) if event["event"] == "waiting" and event["trial"] == "t0000")
    stories = Stories()
    for event in EVERYTHING[: at + 1]:
        stories.take(event)
    assert tables(EVERYTHING[: at + 1])["t0000"]["state"] == "waiting"
    assert stories.all["t0000"].summary()["state"] == "waiting"


@given(searches(), st.data())
@settings(max_examples=15, deadline=None)
def test_of_any_search_cut_anywhere(case, data):
    shape, world, how = case
    log = Play(search(**shape), world).to_the_end(**how).log
    for cut in data.draw(st.lists(st.integers(1, len(log)), min_size=1, max_size=4)):
        state, stories = search(**shape), Stories()
        state.replay(log[:cut])
        for event in log[:cut]:
            stories.take(event)
        assert of_state(state) == tables(log[:cut]) == of_stories(stories)
