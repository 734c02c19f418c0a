"""prior.json: what a search was told of earlier ones when it began (`--learn-from RUN…`). It is never changed again."""

from __future__ import annotations

from typing import TypedDict

from raysearch.record.info import Json

PRIOR = "prior.json"
"""The file in the run folder."""


class PriorTrial(TypedDict):
    """A trial or head of an earlier run."""

    run: int
    """Which of the runs, from 0."""
    trial: str
    head: bool
    stage: int
    """Index in its schedule of the stage that it trained."""
    place: float
    """The share of its run's trials that it was better than, those of its own stage; a tie with itself is a half."""
    params: Json
    """What it was trained with, a value by each dotted path that this search draws of such a trial, encoded."""


class PriorRun(TypedDict):
    """An earlier run."""

    run: str
    """Its name."""
    data: str
    """Its images, as its settings name them."""
    backbone: str
    compared: int
    """Trials and heads that it compared with each other."""
    left_out: int
    """Of these, those that this search could not draw."""


class Prior(TypedDict):
    """The document."""

    runs: list[PriorRun]
    trials: list[PriorTrial]
    """In the order in which they stay: as this search goes on, the last leave first."""
