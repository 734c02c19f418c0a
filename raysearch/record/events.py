"""The events of a run's log: log.jsonl has one a line, and every line also has its time (seconds since 1970)."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, cast

from raysearch.recipe import Recipe
from raysearch.record.final_events import (
    Chosen,
    FinalsBegun,
    FoldTrained,
    Line,
    Raced,
    RefitFailed,
    RefitLost,
    Refitted,
    Row,
    StudentTrained,
    TestRead,
)
from raysearch.record.info import Json

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


class Brought(Line):
    """What a level brought: its leader against its control, on images that chose nothing."""

    verdict: Literal["gain", "none", "undecided", "untested"]
    opened: NotRequired[list[str]]
    """Blocks that the leader has opened."""
    before: NotRequired[list[str]]
    """Blocks that were open before."""
    gain: NotRequired[float]
    """Mean log-loss saved an image (nats); as `low`, `high` and `images`, missing where nothing was tested."""
    low: NotRequired[float]
    high: NotRequired[float]
    images: NotRequired[int]


class LevelJudged(Brought):
    """A level of the tree is over."""

    event: Literal["level"]
    level: int
    leader: str
    control: str | None


class Behind(TypedDict):
    """By how much the best network's head is better than another's on the same validation images."""

    mean: float
    low: float
    high: float
    """Ends of its interval, in the metric's own unit; above 0 is better."""


class NetworkStanding(TypedDict):
    """How a network stands after the head search."""

    network: str
    head: str | None
    """Its best head; None: all of its heads have failed."""
    figure: float | None
    """Of that head, by the search's metric, on the validation images."""
    behind: Behind | None
    """None: it is the best, or has no head."""
    stays: bool
    """Whether its blocks may be opened."""


class NetworksCompared(Line):
    """The head search is over: the networks, the best first, and which of them go on."""

    event: Literal["networks"]
    heads: int
    """How many there were by then."""
    images: int
    """Validation images, on which all were compared."""
    confidence: float
    """Of the intervals."""
    networks: list[NetworkStanding]


class RateCurve(TypedDict):
    """A range test at one depth: the loss as the learning rate rises, and the bounds that follow."""

    rates: list[float]
    losses: list[float]
    low: float
    high: float


class RatesTested(Line):
    """The learning rates of a level were tested, at each depth that it may have."""

    event: Literal["lr_find"]
    level: int
    start: str
    depths: dict[str, RateCurve]
    error: NotRequired[str]
    """Why there are none."""


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
