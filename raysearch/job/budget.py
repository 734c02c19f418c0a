"""How many heads and trials a search starts, and how many differ."""

from __future__ import annotations

import math

from raysearch.job.flags import Flags
from raysearch.space.space import Space


def budget_of(space: Space, flags: Flags, preset: dict[str, int]) -> tuple[int, int]:
    """Heads and trials to start."""
    grid, most = space.search.sampler == "grid", _most(space)
    heads = int(min(space.search.heads, space.grid_size(space.head_paths()) or math.inf))
    if space.heads_only:
        return int(min(flags.trials or (most if grid else heads), most)), 0
    return heads, int(min(flags.trials or (most if grid else preset["trials"]), most))


def _most(space: Space) -> float:
    """Of what --trials counts: a grid's points; heads that differ, where all that is searched has few values."""
    if space.heads_only:
        return space.grid_size(space.head_paths()) or math.inf
    return sum(most + space.tested for most in most_a_level(space))  # of a tested level, a control too


def most_a_level(space: Space) -> tuple[float, ...]:
    """Trials that differ, of each level: few only of a grid, and where nothing is searched."""
    grid, first = space.search.sampler == "grid", space.levels[:1]
    return tuple(
        (1 if level in first else space.search.beam) * size if grid or not paths else math.inf
        for level in space.levels
        for paths in [space.trial_paths(level)]
        for size in [space.grid_size(paths)]
    )
