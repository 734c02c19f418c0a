"""The events that stand between the levels of a search: networks that leave, range tests, and what a level brought."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from raysearch.record.line import Line


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
