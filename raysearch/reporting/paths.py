"""What follows from whom a trial started from: its path from the head on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from raysearch.record.files import BEST, CHECKPOINTS

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def with_paths(trials: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """The trials with what follows from whom they started from.

    Returns: the rows whose making the log has, with the columns added: level (which stage of its schedule the trial
        trained), path_seconds (of its training and of all before it, the head's included), epochs_before (epochs from
        the head to where it starts).
    """
    table = trials[trials["depth"].notna()].copy()
    stages = sorted(
        int(name.split(".")[1]) for name in table if name.startswith("schedule.") and name.endswith(".depth")
    )
    level = pd.Series(0, index=table.index)
    for stage in stages:
        level = level.mask(table[f"schedule.{stage}.depth"].notna(), stage)
    seconds = dict(zip(heads["trial"], heads["seconds"], strict=True))
    after: dict[str, float] = {}
    before = []
    for row in table.to_dict("records"):  # parents are made before their children
        name, parent = row["trial"], row["parent"]
        seconds[name] = row["seconds"] + seconds.get(parent, 0.0)
        before.append(after.get(parent, 0))
        kept = row["best_epoch"]
        after[name] = before[-1] + int(row["epochs"] if kept is None or pd.isna(kept) else kept)
    return table.assign(level=level, path_seconds=[seconds[name] for name in table["trial"]], epochs_before=before)


def trained_parameters(folder: Path, trials: pd.DataFrame) -> list[float]:
    """How many numbers each trial trained at its depth, read from the headers of the checkpoints; NaN: none is left."""
    shape = ["backbone", "depth", "pooling", "head.kind", "head.hidden_units"]
    counts: dict[tuple[Any, ...], float] = {}
    keys = [tuple(str(row.get(name)) for name in shape) for row in trials.to_dict("records")]
    for key, trial in zip(keys, trials["trial"], strict=True):
        path = folder / CHECKPOINTS / trial / BEST
        if key not in counts and path.is_file():
            with safe_open(path, framework="numpy") as file:
                names = [name for name in file.keys() if not name.endswith(_BUFFERS)]  # noqa: SIM118 - no dictionary
                counts[key] = float(sum(math.prod(file.get_slice(name).get_shape()) for name in names))
    return [counts.get(key, math.nan) for key in keys]
