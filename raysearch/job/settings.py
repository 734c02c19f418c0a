"""What makes a search this search: its settings, as resolved."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysearch.recipe import Fit, Shared, shared

Preset = Literal["quick", "default", "best"]


PRESETS: dict[str, dict[str, int]] = {
    "quick": {"trials": 12, "max_epochs": 6, "refits": 3},
    "default": {"trials": 32, "max_epochs": 12, "refits": 3},
    "best": {"trials": 100, "max_epochs": 30, "refits": 5},
}


class Settings(BaseModel):
    """What makes a search this search: kept in run.json, and taken from there by a resume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    data: str
    image_size: int
    """pixels"""
    fit: Fit
    backbone: str
    weights: str
    """What loads the same weights again: imagenet, bundled, random or a path."""
    metric: str
    seed: int
    device: str
    precision: str
    preset: Preset
    concurrent: int
    workers_per_trial: int
    """Processes that train one trial together; another number gives other last digits."""
    cpus_per_trial: int
    """Threads of one worker: another number gives other last digits, so a resume keeps it unless told otherwise."""
    trials: int
    heads: int
    """Heads that the head search starts; where that is the whole search, --trials counts them."""
    head: str | None
    """The run whose best head the trials start from, if it was trained there."""
    max_epochs: int
    rungs: tuple[int, ...]
    """epochs"""
    reduction: int
    cache: Literal["auto", "on", "off"]
    cache_bytes: int
    """Disk that cached activations may take."""
    refits: int
    refit_on: Literal["train", "train+val"]
    max_batches: int | None
    """Batches an epoch at most; --fast-dev-run sets it to two."""
    max_failures: int
    """How often a trial may lose its process before it counts as failed; losing its machine does not count."""
    time_budget: float | None
    """seconds"""
    wandb: str | None
    """PROJECT or ENTITY/PROJECT; None: not shown there."""
    wandb_mode: Literal["online", "offline"] | None
    """None: online if there is a key."""
    tensorboard: bool
    storage: str | None
    """URI of the folder that the run has a copy of its folder in, and its checkpoints."""

    @property
    def shared(self) -> Shared:
        """The fields that every trial's recipe has from the search."""
        return shared(dict(self))
