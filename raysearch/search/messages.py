"""What passes between the driver of a search and its workers: a task for a worker, and what a step of it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysearch.recipe import Recipe
from raysearch.record.level_events import RateCurve
from raysearch.record.line import Row

# ---- to a worker -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A piece of a trial between two comparisons."""

    name: str
    trial: str
    recipe: Recipe
    stage: int
    """Index in the recipe's schedule."""
    from_epoch: int
    """Epochs of the stage that the log has already."""
    to_epoch: int
    parent: str | None
    """The trial that it starts from; None: it starts from the backbone's weights."""
    ended_rate: float | None
    """The parent's last learning rate, for a stage that inherits it."""

    @property
    def trials(self) -> list[str]:
        """The trial."""
        return [self.trial]


@dataclass(frozen=True)
class PackHead:
    """A head of a pack."""

    trial: str
    recipe: Recipe
    ended: bool = False
    """Whether it had ended before its pack was broken off: it trains along, and nothing is told of it again."""


@dataclass(frozen=True)
class Pack:
    """Heads that train together, from their first epoch to their ends.

    One that was broken off is trained again whole, or others would survive its halving.
    """

    heads: tuple[PackHead, ...]

    @property
    def trials(self) -> list[str]:
        """The heads that have not ended."""
        return [head.trial for head in self.heads if not head.ended]


@dataclass(frozen=True)
class RateTest:
    """The range test of a level that is about to begin."""

    start: str
    """The trial that the level starts from."""
    stage: int
    recipes: Mapping[str, Recipe]
    """What is trained at each depth."""

    @property
    def trials(self) -> list[str]:
        """What the level starts from."""
        return [self.start]


Task = Segment | Pack | RateTest


# ---- from a worker ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """An epoch of a trial was trained, and its checkpoint is where it is found again."""

    trial: str
    row: Row
    best: Row
    """The trial's best row so far."""
    finished: bool
    """Whether its stage is over."""
    stopped: bool = False
    """Whether it goes on no further, though its stage is not over."""
    handover_delta: float | None = None
    """What the hand-over gate found; only with a stage's first row."""

    @property
    def ended(self) -> bool:
        """Whether the worker does no more for this trial."""
        return self.finished or self.stopped


@dataclass(frozen=True)
class RatesFound:
    """The range test of a level is over."""

    trial: str
    """What the level starts from."""
    depths: dict[str, RateCurve]


@dataclass(frozen=True)
class Failed:
    """A trial cannot be trained: what happened would happen again."""

    trial: str
    error: str


@dataclass(frozen=True)
class Unsaved:
    """The disk takes nothing at the moment; the next step tries again."""

    trial: str
    error: str


@dataclass(frozen=True)
class Refused:
    """The storage made the worker wait before it took what this step had to keep."""

    trial: str
    seconds: float
    error: str


Result = Trained | RatesFound | Failed | Unsaved | Refused
