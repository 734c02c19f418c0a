"""What makes a search this search: its settings, as resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysearch.recipe import Fit, Shared, shared
from raysearch.record.evaluation import Kind
from raysearch.record.final_events import On

Preset = Literal["quick", "default", "best"]


BALANCE = "balance"
"""As `ship_point`: the recipe that the search and the final comparison find best."""


@dataclass(frozen=True)
class Spending:
    """What a preset spends."""

    trials: int
    max_epochs: int
    refits: int
    """Trainings of the chosen recipe with fresh seeds."""
    folds: int
    """Folds of the final comparison."""
    challengers: int
    """Recipes that are compared with the default there."""
    seeds: int
    """Trainings of the chosen recipe in each fold."""
    fold_length: float
    """How many times as long as a trial each training on a fold is."""
    final_length: float
    """How many times as long as a trial the chosen recipe is trained for good."""


PRESETS: dict[Preset, Spending] = {
    "quick": Spending(
        trials=6, max_epochs=6, refits=3, folds=2, challengers=1, seeds=2, fold_length=1.0, final_length=2.75
    ),
    "default": Spending(
        trials=18, max_epochs=12, refits=4, folds=4, challengers=3, seeds=2, fold_length=1.5, final_length=1.5
    ),
    "best": Spending(
        trials=100, max_epochs=30, refits=5, folds=5, challengers=4, seeds=2, fold_length=1.0, final_length=1.0
    ),
}


class Settings(BaseModel):
    """What makes a search this search: kept in run.json, and taken from there by a resume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    data: str
    """SOURCE as it was typed; the path of a folder or a file is written in full."""
    unlabelled: str | None = None
    """The folder, in full, of images without labels, from which a student learns; None: there are none."""
    images: str | None = None
    """The folder, in full, that the paths of a table start from; None: the table's own."""
    columns: str | None = None
    """The columns of a table, as they were typed."""
    group_by: str | None = None
    """A regular expression on paths, whose first group names what an image belongs to."""
    fraction: float = 1.0
    """Of the training images, or of one subset of them."""
    subsets: int = 1
    """Disjoint ones of the training images, of which one is taken."""
    subset: int = 0
    keep_copies: bool = True
    """Whether images of train and val stay that val or test has too; runs from before this was asked kept them."""
    image_size: int
    """pixels"""
    fit: Fit
    backbone: str
    weights: str
    """What loads the same weights again: imagenet, bundled, random or a path."""
    networks: tuple[str, ...] = ()
    """Those that the search chooses among, as NAME=WEIGHTS@PX, the default's first, which `backbone` and `weights` say
    too; none: it has one."""
    metric: str
    require: tuple[str, ...] = ()
    """Bounds that count before the metric: see `raysearch.record.goal.Requirement`."""
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
    continues: str | None = None
    """The run that this one continues: its head, its recipe and its test images are where this one begins."""
    continuing_rules: int = 1
    """See `raysearch.data.continued.RULES`; runs from before there were several go by the first."""
    learn_from: tuple[str, ...] = ()
    """Earlier runs, as they were typed, whose trials are a prior for the proposals; what they say is in prior.json."""
    max_epochs: int
    rungs: tuple[int, ...]
    """epochs"""
    reduction: int
    cache: Literal["auto", "on", "off"]
    cache_bytes: int
    """Disk that cached activations may take."""
    refits: int
    refit_on: On
    folds: int = 0
    """Folds of the final comparison; 0: there is none. Runs from before it have none."""
    challengers: int = 0
    """Recipes that are compared with the default there."""
    fold_seeds: int = 0
    """Trainings of the chosen recipe in each fold."""
    fold_length: float | None = None
    """How many times as long as a trial each training on a fold is; None: as for good (older runs)."""
    final_length: float = 1.0
    """How many times as long as a trial the chosen recipe is trained for good."""
    ship: Kind | None = None
    """What --ship asks for; None: the best that costs one pass through the network."""
    ship_point: str = BALANCE
    """Which recipe is shipped, if not the best: the best by one of several metrics, or a trial."""
    max_batches: int | None
    """Batches an epoch at most; --fast-dev-run sets it to two."""
    max_failures: int
    """How often a trial may lose its process before it counts as failed; losing its machine does not count."""
    time_budget: float | None
    """Seconds that the search may take; None: as many as it needs."""
    wandb: str | None
    """PROJECT or ENTITY/PROJECT; None: not shown there."""
    wandb_mode: Literal["online", "offline"] | None
    """How W&B is reached; None: online if there is a key."""
    tensorboard: bool
    storage: str | None
    """URI of the folder that the run has a copy of its folder in, and its checkpoints."""

    @property
    def starts_from(self) -> str | None:
        """The run whose head the trials start from; None: heads are searched."""
        return self.head if self.continues is None else self.continues

    @property
    def shared(self) -> Shared:
        """The fields that every trial's recipe has from the search."""
        return shared(dict(self))
