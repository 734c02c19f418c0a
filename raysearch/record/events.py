"""The events of a run's log: log.jsonl has one a line, and every line also has its time (seconds since 1970)."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, cast

from raysearch.recipe import Recipe
from raysearch.record.final_events import (
    Chosen,
    FinalsBegun,
    FoldTrained,
    Raced,
    RefitFailed,
    RefitLost,
    Refitted,
    StudentTrained,
    TestRead,
)
from raysearch.record.info import Json
from raysearch.record.level_events import LevelJudged, NetworksCompared, RatesTested
from raysearch.record.line import Line, Row

Role = Literal["default", "control"]
"""Trials that are trained to the end whatever their rivals do: of the known-good recipe; of a level's leader with no
block opened."""

Cause = Literal["process", "machine"]
"""What was lost with a segment: a process, which may be its trial's fault; a machine, which is nobody's."""


# ---- what becomes of trials ------------------------------------------------------------------------------------------


class Origin(TypedDict):
    """The trial of an earlier run that a head was taken over from."""

    run: str
    trial: str


class TrialMade(Line):
    """A trial or head is made; its first segment is due."""

    event: Literal["trial"]
    trial: str
    parent: str | None
    depth: int
    stage: int
    params: Json
    """What was searched: a value by dotted path."""
    recipe: Recipe | Json
    """A line that was read has JSON, which nobody has checked yet."""
    pack: NotRequired[int]
    role: NotRequired[Role]
    first: NotRequired[int]
    """Its place among the recipes that the space names to be tried first, from 0."""
    prior: NotRequired[int]
    """How many trials of earlier runs the sampler knew of when it was drawn, if any."""
    origin: NotRequired[Origin]


class Promoted(Line):
    """A trial may go on to the next rung."""

    event: Literal["promoted"]
    trial: str


class SegmentStarted(Line):
    """A worker was given a segment of a trial."""

    event: Literal["segment"]
    trial: str
    segment: str
    stage: int
    from_epoch: int
    to_epoch: int
    pack: NotRequired[int]


class Waiting(Line):
    """A segment waits for a machine."""

    event: Literal["waiting"]
    trial: str
    needs: str


class Placed(Line):
    """A segment that waited has its machine."""

    event: Literal["placed"]
    trial: str


class HandedOver(Line):
    """A stage began with the loss that its parent ended with, but for `delta`."""

    event: Literal["handover"]
    trial: str
    stage: int
    delta: float


class EpochTrained(Line):
    """An epoch was trained. The line has all figures of its row."""

    event: Literal["epoch"]
    trial: str
    stage: int
    epoch: int
    seconds: float
    lr: NotRequired[float]
    fill_seconds: NotRequired[float]
    """Those of `seconds` that filled the cache of activations."""


class SegmentEnded(Line):
    """A segment came to its end."""

    event: Literal["segment_end"]
    trial: str
    segment: str
    epoch: int
    finished: bool
    """Whether the trial's stage is over."""
    seconds: float
    best: Row
    """The trial's best epoch so far."""


class SegmentLost(Line):
    """A segment was lost with its worker, and runs again."""

    event: Literal["segment_lost"]
    trial: str
    segment: str
    worker: str
    reason: str
    cause: Cause


class SegmentPaused(Line):
    """A segment was broken off because the search stopped."""

    event: Literal["segment_paused"]
    trial: str
    segment: str
    reason: str


class TrialFailed(Line):
    """A trial has failed for good."""

    event: Literal["failed"]
    trial: str
    error: str


class Dropped(Line):
    """A stopped trial can never be promoted; its checkpoints are deleted."""

    event: Literal["dropped"]
    trial: str


# ---- what becomes of the search --------------------------------------------------------------------------------------


class BudgetSet(Line):
    """How many heads and trials the search has from here on, all told."""

    event: Literal["budget"]
    heads: int
    trials: int
    max_epochs: int


class StorageRefuses(Line):
    """What a worker writes is refused; it tries again."""

    event: Literal["storage_refuses"]
    trial: str
    error: str


class StorageRefused(Line):
    """What was written was refused for some time; by the driver's copy of the run folder, where no trial is named."""

    event: Literal["storage_refused"]
    trial: NotRequired[str]
    seconds: float
    error: str


class Interrupted(Line):
    """The search was stopped."""

    event: Literal["interrupted"]
    reason: str


class Finished(Line):
    """The search is over."""

    event: Literal["finished"]


Event = (
    TrialMade
    | Promoted
    | SegmentStarted
    | Waiting
    | Placed
    | HandedOver
    | EpochTrained
    | SegmentEnded
    | SegmentLost
    | SegmentPaused
    | TrialFailed
    | Dropped
    | BudgetSet
    | LevelJudged
    | NetworksCompared
    | RatesTested
    | StorageRefuses
    | StorageRefused
    | FinalsBegun
    | FoldTrained
    | Raced
    | Chosen
    | Refitted
    | StudentTrained
    | RefitFailed
    | RefitLost
    | TestRead
    | Interrupted
    | Finished
)
"""A line of the log; "event" says which."""


def trial_of(event: Event) -> str | None:
    """The name of the trial that an event is about; None if it is about the search."""
    name = event.get("trial")
    return name if isinstance(name, str) else None


def epoch_trained(trial: str, stage: int, row: Row) -> EpochTrained:
    """The event of an epoch, with all figures of its row."""
    return cast(EpochTrained, {"event": "epoch", "trial": trial, "stage": stage, **row})


def row_of(event: EpochTrained) -> Row:
    """The figures of an epoch that was trained, among what else its line says."""
    return cast(Row, event)
