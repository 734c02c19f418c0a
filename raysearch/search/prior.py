"""Trials of earlier runs beside this search's own, of which fewer are left with every trial that it has compared.

They are told to the sampler and to nobody else: no rung, table, verdict or winner knows of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial

from raysearch.record.prior import PriorTrial
from raysearch.search.asha import Scores
from raysearch.search.frozen_trials import Distributions, frozen
from raysearch.space.domains import contains

WORTH = 16
"""So many trials of earlier runs are there when this search has none of its own; each that it has takes one's place."""


def spread(count: int) -> list[int]:
    """Places among so many, best first, so that the beginning of any length is spread over all of them.

    >>> spread(6)
    [0, 5, 2, 1, 3, 4]
    """
    order = dict.fromkeys([0, count - 1][:count])
    gaps = [(0, count - 1)]
    for low, high in gaps:  # grows meanwhile
        middle = (low + high) // 2
        if middle not in (low, high):
            order[middle] = None
            gaps += [(low, middle), (middle, high)]
    return list(order)


def still_there(trials: Sequence[PriorTrial], distributions: Distributions, own: int) -> list[PriorTrial]:
    """Those of earlier runs that a proposal takes into account.

    Args:
        trials: of one kind, in the order in which they stay.
        distributions: of what is to be proposed; a trial that could not be drawn from them says nothing.
        own: trials that this search has compared.
    """
    known = (one for one in trials if all(_fits(distributions, path, value) for path, value in one["params"].items()))
    return [one for one, _ in zip(known, range(WORTH - own), strict=False)]


def beside(
    trials: Sequence[PriorTrial],
    distributions: Distributions,
    own: Sequence[Scores],
    metrics: int,
    required: bool,
) -> list[FrozenTrial]:
    """Trials of earlier runs as Optuna knows its own.

    A figure on other images says nothing here, but a place in a ranking does: a trial that was better than nine tenths
    of its run gets the score that is better than nine tenths of this search's.

    Args:
        trials, distributions: as of `still_there`; what is drawn here alone, a trial's parent, is taken in turn.
        own: the scores of this search's trials, by each metric, larger is better.
        metrics: how many there are.
        required: whether trials may miss what is required.
    """
    found = []
    for number, trial in enumerate(trials):
        values = {
            path: trial["params"].get(path) if path in trial["params"] else _in_turn(distributions, path, number)
            for path in distributions
        }
        scores = _scores(trial["place"], own, metrics)
        found.append(frozen(values, distributions, scores, short=0.0 if required else None))
    return found


def _scores(place: float, own: Sequence[Scores], metrics: int) -> Scores:
    """The score at this place among a search's own, by each metric; between two of them in proportion."""
    if not own:
        return (place,) * metrics
    at = np.quantile(np.array(own, dtype=np.float64), place, axis=0)
    # Few scores leave many places alike, and the sampler must still know which is the better.
    return tuple(float(score + 1e-9 * (place - 0.5)) for score in at)


def _fits(distributions: Distributions, path: str, value: object) -> bool:
    return path in distributions and contains(distributions[path], value)


def _in_turn(distributions: Distributions, path: str, number: int) -> object:
    """One of the choices of what only this search has."""
    choices = getattr(distributions[path], "choices")  # noqa: B009
    return choices[number % len(choices)]
