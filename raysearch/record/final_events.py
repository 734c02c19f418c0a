"""The events of a run's log that are of what follows the search."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from raysearch.record.info import Json
from raysearch.record.line import Line, Row

On = Literal["train", "train+val"]
"""Which labelled images the trainings after the search are given."""


class FinalsBegun(Line):
    """The trainings after the search begin: see `raysearch.pipeline.effort.Effort` for how many there are."""

    event: Literal["finals"]
    finalists: list[str]
    """The trials that are compared, the default first; without folds, the one that is trained again."""
    confidence: float
    folds: int
    challengers: int
    seeds: int
    refits: int
    on: On
    asked: NotRequired[str]
    """The trial that is taken whatever comes of it, because --ship-point asks for it."""


class FoldTrained(Line):
    """A finalist was trained without one of the folds, the one numbered `fold` (from 1) of so many."""

    event: Literal["fold"]
    name: str
    """The training's."""
    trial: str
    seed: int
    fold: int
    of: int
    best: Row | None
    seconds: float


class StudentTrained(Line):
    """A network has learned from the answers of others, beside its labels."""

    event: Literal["student"]
    name: str
    trial: str
    fold: int | None
    """The fold without which it and its teachers were trained (from 1); None: the one that may be shipped."""
    teachers: list[str]
    """Their trainings' names."""
    unlabelled: int
    """Images without labels that it was trained on."""
    best: Row | None
    seconds: float


class Refitted(Line):
    """A recipe was trained with a fresh seed on all images that it may be trained on."""

    event: Literal["refit"]
    name: NotRequired[str]
    """The training's; older logs have none."""
    trial: str
    seed: int
    recipe: Json
    best: Row | None
    seconds: float


class RefitFailed(Line):
    """A training after the search has failed."""

    event: Literal["refit_failed"]
    name: NotRequired[str]
    trial: str
    seed: int
    error: str


class Raced(Line):
    """How a challenger stands against the default after some folds: by how much it is better, and the interval."""

    event: Literal["race"]
    against: str
    trial: str
    folds: int
    goes_on: bool
    """Whether it is worth another fold."""
    mean: float
    low: float
    high: float
    images: int
    nearer: NotRequired[float]
    """By how much less it misses what the search requires; missing where nothing is required, or both keep it."""


class ShippablePoint(TypedDict):
    """Something that could be shipped, and how many networks' time an answer of it takes."""

    kind: str
    cost: int


class Chosen(Line):
    """What is shipped was decided."""

    event: Literal["chosen"]
    trial: str
    default: str
    shipped: str
    points: list[ShippablePoint]
    temperature: float


class RefitLost(Line):
    """The job of the trainings after the search was lost, and is started again."""

    event: Literal["refit_lost"]
    reason: str


class TestRead(Line):
    """The test images were looked at, for models that are named here."""

    event: Literal["test_read"]
    winner: str
    default: NotRequired[str]
    head: NotRequired[str]
