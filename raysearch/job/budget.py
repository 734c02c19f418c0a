"""How much a search spends: how many heads and trials it starts, how long they train, and how many differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from raysearch.job.flags import Flags
from raysearch.job.settings import PRESETS, Preset, Spending
from raysearch.search.asha import rungs_for
from raysearch.space.space import Space

WHOLE_EPOCHS = 12
"""Trials of no more epochs are trained whole, unless the space says when they are first compared: on recorded curves
halving found the best recipe no more often than fewer whole trials did for the same epochs (benchmarks/asha.py)."""

FEW_IMAGES = 1000
"""With fewer labelled images, recipes are compared on `FEW_IMAGES_FOLDS` folds at least, each training as long as for
good, which costs little then. On two folds of 400 images, after 6 epochs, a head alone was surely better than the
default, which had 4 points more on the test images when both were trained for good (benchmarks/README.md)."""
FEW_IMAGES_FOLDS = 4


def trial_rungs(space: Space, epochs: int) -> tuple[int, ...]:
    """The epochs at which trials of one level are compared, of which each has so many at most."""
    search = space.search
    if search.first_rung_epochs is None and epochs <= WHOLE_EPOCHS:
        return (epochs,)
    return rungs_for(epochs, search.reduction, search.first_rung_epochs)


@dataclass(frozen=True)
class Budget:
    """What a search may spend on training; its fields are those of the settings."""

    heads: int
    trials: int
    max_epochs: int
    refits: int
    folds: int
    challengers: int
    fold_seeds: int
    fold_length: float
    final_length: float
    max_batches: int | None = None


def budget_of(space: Space, flags: Flags, *, has_head: bool = False, images: int | None = None) -> Budget:
    """What the flags, the preset and the space come to.

    Args:
        space: what is searched.
        flags: as they were typed.
        has_head: whether a trained head is there already, so that none is searched.
        images: how many have labels, for training and validation; None: enough.
    """
    preset = spending(flags.preset, images)
    heads, trials = _starts(space, flags, preset.trials)
    if flags.fast_dev_run:
        once = len(space.levels) * (2 if space.tested else 1)  # a level that is tested has a control too
        folds = 0 if flags.refit_on == "train" else 2
        once_each = len(space.head_shapes()) if space.networks else 1
        return Budget(min(once_each, heads), min(trials, once), 1, 1, folds, 1, 2, 1.0, 1.0, max_batches=2)
    refits = preset.refits if flags.refits is None else flags.refits
    folds = preset.folds if flags.folds is None else flags.folds
    if not refits or flags.refit_on == "train":  # nothing is trained on all images
        folds = 0
    if space.heads_only and flags.folds is None:  # the head search has folds of its own, if the space says so
        folds = 0
    longer = flags.refit_on == "train+val" and not space.heads_only
    return Budget(
        min(1, heads) if has_head else heads,
        trials,
        flags.max_epochs or (space.head_epochs() if space.heads_only else preset.max_epochs),
        refits,
        folds,
        preset.challengers if folds else 0,
        preset.seeds if folds else 0,
        *((preset.fold_length, preset.final_length) if longer else (1.0, 1.0)),
    )


def spending(preset: Preset, images: int | None) -> Spending:
    """What a preset spends on so many labelled images."""
    usual = PRESETS[preset]
    if images is None or images >= FEW_IMAGES:
        return usual
    return replace(usual, folds=max(usual.folds, FEW_IMAGES_FOLDS), fold_length=usual.final_length)


def _starts(space: Space, flags: Flags, usual_trials: int) -> tuple[int, int]:
    """Heads and trials to start."""
    grid, most = space.search.sampler == "grid", most_to_start(space)
    heads = int(min(space.heads, space.grid_size(space.head_paths()) or math.inf))
    if space.heads_only:
        return int(min(flags.trials or (most if grid else heads), most)), 0
    return heads, int(min(flags.trials or (most if grid else usual_trials), most))


def most_to_start(space: Space) -> float:
    """The most that --trials can ask for: a grid's points; heads that differ, where what is searched has few values."""
    if space.heads_only:
        return space.grid_size(space.head_paths()) or math.inf
    return sum(most + space.tested for most in most_a_level(space))  # a level that is tested has a control too


def most_a_level(space: Space) -> tuple[float, ...]:
    """How many trials of each level differ: few where there is a grid, and where nothing is searched."""
    grid, first = space.search.sampler == "grid", space.levels[:1]
    return tuple(
        (1 if level in first else space.search.beam) * size if grid or not paths else math.inf
        for level in space.levels
        for paths in [space.trial_paths(level)]
        for size in [space.grid_size(paths)]
    )
