"""Flags that are numbers or durations: what they may be."""

from __future__ import annotations

import math
import re

from raysearch.data.pixels import MIN_IMAGE_SIZE
from raysearch.errors import InputError, Problems
from raysearch.job.flags import Flags

_NUMBER = r"\d+(?:\.\d+)?"


_DURATION = re.compile(
    rf"(?:({_NUMBER})\s*d)?\s*(?:({_NUMBER})\s*h)?\s*(?:({_NUMBER})\s*m)?\s*(?:({_NUMBER})\s*s)?|({_NUMBER})"
)


def seconds(text: str) -> float:
    """A duration as people write it: 90, 90s, 30m, 1.5h, 1h30m.

    Raises:
        InputError: it is none, or not above 0.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise InputError(f"--time-budget {text}: not a duration; write for example 45s, 30m or 1h30m")
    total = sum(float(n) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1, 1), strict=True) if n)
    if not 0 < total < math.inf:
        raise InputError(f"--time-budget {text}: must be above 0")
    return total


def check_numbers(flags: Flags, problems: Problems) -> bool:
    """Notes every number that is out of range; returns whether those that say what a trial gets are fine."""
    for name, least in (
        ("trials", 1),
        ("max_epochs", 1),
        ("image_size", MIN_IMAGE_SIZE),
        ("refits", 0),
        ("folds", 0),
        ("concurrent", 1),
        ("workers_per_trial", 1),
        ("refit_workers", 1),
        ("max_failures", 0),
        ("seed", 0),
    ):
        value = getattr(flags, name)
        problems.check(
            not isinstance(value, int | float) or value >= least,
            f"--{name.replace('_', '-')} {value}: must be at least {least}",
        )
    problems.check(flags.seed is None or flags.seed < 2**32, f"--seed {flags.seed}: must be below 2**32")
    problems.check(flags.cache_gb is None or flags.cache_gb >= 0, f"--cache-gb {flags.cache_gb}: must be 0 or more")
    problems.check(
        flags.folds != 1, "--folds 1: what is held out must be a part; give 0 for no comparison, or 2 or more"
    )
    problems.check(
        not flags.folds or flags.refit_on == "train+val",
        f"--folds {flags.folds}: with --refit-on train the validation images decide; leave one of them out",
    )
    problems.check(
        flags.ship is None or flags.refits != 0,
        f"--ship {flags.ship}: without refits there is only the search's own winner; leave out --refits 0",
    )
    without = "--folds 0" if flags.folds == 0 else "--refit-on train" if flags.refit_on == "train" else None
    problems.check(
        flags.ship not in ("averaged", "mirror", "ensemble") or without is None,
        f"--ship {flags.ship}: it is made and judged of trainings on folds; leave out {without}",
    )
    problems.check(
        flags.ship_point is None or flags.refits != 0,
        f"--ship-point {flags.ship_point}: what is shipped is trained again; leave out --refits 0",
    )
    gpus = flags.gpus_per_trial
    share = gpus is None or 0 <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)
    problems.check(share, f"--gpus-per-trial {gpus}: must be a fraction from 0 to 1, or a whole number")
    return share and all(n is None or n >= 1 for n in (flags.concurrent, flags.workers_per_trial))
