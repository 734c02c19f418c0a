"""What the log says of a trial, and how trials are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

Event = dict[str, Any]


@dataclass
class Trial:
    """What the log says of one trial or head."""

    name: str
    parent: str | None
    depth: int
    params: dict[str, Any]
    recipe: dict[str, Any]
    stage: int
    """Index in its schedule of the stage that it trains."""
    pack: int | None = None
    """Which heads it is trained together with; None for a trial."""
    role: str | None = None
    """"default": of the known-good recipe; "control": of a level's leader with no block opened. Both are trained to the
    end."""
    epochs: int = 0
    """Finished epochs: those of its last ended segment."""
    rung: int = 0
    """Rungs it has finished."""
    target: int = 0
    """Rungs it was sent to finish."""
    segments: int = 0
    """Segments started."""
    lost: int = 0
    """Segments lost with their process; those lost with their machine are not the trial's fault."""
    running: str | None = None
    needs: str | None = None
    """What its segment waits for before it can run."""
    finished: bool = False
    failed: bool = False
    dropped: bool = False
    rate: float | None = None
    """Learning rate of its last step."""
    best: Event | None = None
    """The row of its best epoch in its ended segments; epoch 0, which it was handed, counts."""
    score: float = -inf
    """The best of the epochs that it trained itself: what rungs compare. A trial that only spoils what it was handed
    must not look as good as its parent."""
    rung_scores: list[float] = field(default_factory=list)
    """The score when it reached each rung; that of an early end at all that would have come."""

    @property
    def number(self) -> int:
        """Among the heads or the trials of the search, in the order in which they were made."""
        return int(self.name[1:])

    @property
    def is_head(self) -> bool:
        """Whether it belongs to the head search."""
        return self.pack is not None

    @property
    def able(self) -> bool:
        """Whether its tensors are there to be used."""
        return not (self.failed or self.dropped)

    @property
    def state(self) -> str:
        """waiting, running, stopped, done or failed."""
        if self.failed:
            return "failed"
        if self.running is not None:
            return "running" if self.needs is None else "waiting"
        if self.finished:
            return "done"
        if self.segments == 0 or self.rung < self.target:
            return "waiting"
        return "stopped"
