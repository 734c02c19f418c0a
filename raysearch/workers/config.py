"""What a process is told before it works: plain values, which travel to other machines."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from raysearch.record.info import Json

TuneDict = dict[str, Any]
"""What Tune passes between driver and trainable, and Train to its workers: configurations and results.

Ray has no closer type for them."""


class BenchConfig(TypedDict):
    """The keywords of `raysearch.training.bench.Bench.open`."""

    dataset: str
    """The cache folder of the decoded images."""
    backbone: str
    weights: str
    seed: int
    device: str
    precision: str
    metric: str
    require: NotRequired[list[str]]
    max_batches: int | None
    halves: bool
    """Whether half of the validation images choose nothing."""
    several: NotRequired[bool]
    """Whether recipes have other networks than the one that is named here."""
    unlabelled: NotRequired[str | None]
    """The cache folder of the decoded images that have no labels, where students are trained."""
    cache: NotRequired[Json | None]
    """The fields of `raysearch.activations.cache.CacheSettings`, of several networks by the name of each; None: nothing
    is cached."""


class PackOptions(TypedDict):
    """How the heads of a pack are compared."""

    folds: int
    """Folds of the cross-validation; 0: none."""
    reduction: int
    """1 head in `reduction` goes on at each rung."""
    first_rung_epochs: int | None
    """See `raysearch.search.asha.rungs_for`."""
    answers: NotRequired[bool]
    """Whether what a pack's best head makes of the validation images is kept with it."""


class WorkplaceConfig(TypedDict):
    """What a process that trains segments is told."""

    bench: BenchConfig
    checkpoints: str
    """The run's folder of them."""
    threads: int
    heads: PackOptions
    storage: NotRequired[str | None]
    """The URI of the run in its storage, if it has one."""
