"""The epoch that a stage keeps, and its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from raysearch.training.epoch import Figures


@dataclass
class BestEpoch:
    """The epoch to keep so far: the best (ties: the lower val_loss), or the last."""

    row: Figures = field(default_factory=dict)
    """Its figures; empty before the first."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """The suffix as it was then, on the CPU."""
    held_out: list[float] = field(default_factory=list)
    """The log-loss of each held-out image in that state, for tests between trials by images that chose nothing.

    Calibrated by a temperature fitted on the validation images: fine-tuning makes a network surer than it is right,
    and log-loss would tell more of that than of what it has learned."""

    def offer(
        self,
        row: Figures,
        suffix: nn.Module,
        held_out: Callable[[], list[float]],
        *,
        score: float,
        highest: float,
        keep: Literal["best", "last"],
    ) -> None:
        """Takes an epoch's place if it is better, or if the last is to be kept.

        Args:
            row: of the epoch.
            suffix: as it is after it.
            held_out: measures `held_out`, only where it is wanted.
            score: of the row; larger is better.
            highest: score of all epochs before.
            keep: of the stage.
        """
        wins = score > highest or (score == highest and row["val_loss"] < self.row["val_loss"])
        if wins or keep == "last":
            self.row, self.state = row, on_cpu(suffix.state_dict())
            self.held_out = held_out()


def on_cpu(tree: Any) -> Any:
    """Nested dicts and lists, with every tensor copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: on_cpu(value) for key, value in tree.items()}
    return [on_cpu(value) for value in tree] if isinstance(tree, list) else tree
