"""How long a search still takes, from what its log says."""

from __future__ import annotations

import pytest

from raysearch.pipeline.effort import Effort
from raysearch.pipeline.pace import Pace
from raysearch.pipeline.progress import _NAMED, _activity
from raysearch.record.events import Event
from raysearch.search.controller import Controller
from raysearch.search.rules import Rules
from tests.search.simulated import Proposals, recipe

RULES = Rules(rungs=(2, 6), reduction=3)


def pace_of(heads: int, trials: int, events: list[Event], noted: int = 0, refits: int = 0) -> Pace:
    """Of a search whose log begins with these events, of which this process has seen those from `noted` on."""
    controller = Controller(RULES, Proposals(6))
    effort = Effort(folds=0, challengers=0, seeds=0, refits=refits, on="train")
    pace = Pace(controller, concurrent=2, effort=effort, refit_workers=2)
    for number, event in enumerate([{"event": "budget", "heads": heads, "trials": trials}, *events]):
        controller.apply(event)
        if number >= noted:
            pace.note(event)
    return pace


def heads_trained(count: int, *, epochs: int = 2, seconds: float = 1.0, fill: float = 0.0) -> list[Event]:
    """A pack of so many heads, each epoch of which takes a head so many seconds; the first one fills the cache."""
    names = [f"h{number:04d}" for number in range(count)]
    written = recipe(((0, epochs),)).model_dump(mode="json")
    about = {"parent": None, "depth": 0, "params": {}, "recipe": written, "stage": 0, "pack": 0}
    log: list[Event] = [{"event": "trial", "trial": name, **about} for name in names]
    start = {"stage": 0, "from_epoch": 0, "to_epoch": epochs, "pack": 0}
    log += [{"event": "segment", "trial": name, "segment": name, **start} for name in names]
    for epoch in range(1, epochs + 1):
        filling = {"fill_seconds": fill} if epoch == 1 and fill else {}
        row = {
            "epoch": epoch,
            "val_accuracy": 0.5,
            "val_loss": 1.0,
            "seconds": seconds + filling.get("fill_seconds", 0.0),
        }
        log += [{"event": "epoch", "trial": name, **row, **filling} for name in names]
    best = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
    end = {"epoch": epochs, "finished": True, "seconds": 1.0, "best": best}
    return log + [{"event": "segment_end", "trial": name, "segment": name, **end} for name in names]


def test_nothing_is_known_before_anything_was_trained():
    assert pace_of(8, 0, []).left() is None
    assert pace_of(1, 4, heads_trained(1)).left() is None, "heads say nothing of trials"


def test_heads_alone_take_as_long_as_those_that_ended():
    assert pace_of(8, 0, heads_trained(4)).left() == pytest.approx(4 * 2.0 / 2 + 2 * 4.0), "and an evaluation"
    assert pace_of(4, 0, heads_trained(4)).left() == pytest.approx(2 * 4.0), "nothing but the evaluation is left"


def test_what_ended_before_a_resume_is_not_left():
    log = heads_trained(4)
    resumed = pace_of(6, 0, [*log, *heads_later(log)], noted=len(log) + 1)
    assert resumed.left() is not None
    assert resumed.left() < pace_of(8, 0, log).left()


def heads_later(log: list[Event]) -> list[Event]:
    """The same heads again as two others of another pack."""
    renamed = {"h0000": "h0004", "h0001": "h0005"}
    chosen = [event for event in log if event["trial"] in renamed]
    return [
        {**event, "trial": renamed[event["trial"]]}
        | ({"pack": 1} if "pack" in event else {})
        | ({"segment": renamed[event["trial"]]} if "segment" in event else {})
        for event in chosen
    ]


def test_of_many_trials_that_run_only_some_are_named():
    controller = Controller(RULES, Proposals(6, heads=False))
    controller.apply({"event": "budget", "heads": 0, "trials": 100})
    for running in range(1, 41):
        for event in controller.decide():
            controller.apply(event)
        lines = _activity(controller)
        assert len(lines) == min(running, _NAMED + 1)
    assert lines[0].startswith("t0000 at depth ")
    assert lines[-1] == f"and {40 - _NAMED} more"


def test_time_is_kept_for_refits_and_for_the_views_that_they_fill():
    without, cheap = pace_of(4, 0, heads_trained(4)), pace_of(4, 0, heads_trained(4), refits=3)
    filling = pace_of(4, 0, heads_trained(4, fill=10.0), refits=3)
    assert without.reserve() < cheap.reserve() < filling.reserve()
    assert filling.reserve() - cheap.reserve() > 2 * 40.0, "each of the two rounds fills 40 seconds of views"
