"""What a sampler compares of a search: which of its trials, and by which figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean as mean

from raysearch.record.trial import Trial
from raysearch.search.asha import Scores
from raysearch.search.rungs import Rungs

# What TPE looks at: so many of the latest trials; keeps a proposal cheap however long the search and large the cluster.
_COMPARED = 400  # that reached a rung
_RUNNING = 100  # that did not yet: it keeps away from them


def recent(latest_first: Iterable[Trial]) -> list[Trial]:
    """The trials that TPE looks at, in order. Failed ones would tell it nothing.

    Those that run must not take the place of those that were compared: a thousand GPUs run a thousand trials.
    """
    compared: list[Trial] = []
    running: list[Trial] = []
    for trial in latest_first:
        if trial.best is not None and not trial.failed:
            compared.append(trial)
        elif not trial.failed and len(running) < _RUNNING:
            running.append(trial)
        if len(compared) == _COMPARED:
            break
    return sorted([*compared, *running], key=lambda trial: trial.number)


def comparable(known: Sequence[Trial], rungs: Rungs) -> dict[str, Scores]:
    """What the sampler compares: of a trial, its scores less what trials gained on average on their way to its rung.

    Else one would look good for having been trained long: the default always is, and the first of each depth to be
    promoted are followed by more of that depth, whatever the depth is worth.
    """
    scores = {head.name: rungs.rules.scores(head.best) for head in known if head.is_head and head.best is not None}
    climbs = {trial.name: climb for trial in known if (climb := rungs.climb(trial))}
    gains: dict[int, list[Scores]] = {}
    for climb in climbs.values():
        for rung, reached in enumerate(climb):
            gains.setdefault(rung, []).append(_less(reached, climb[0]))
    usual = {rung: tuple(mean(of_metric) for of_metric in zip(*of, strict=True)) for rung, of in gains.items()}
    return scores | {name: _less(climb[-1], usual[len(climb) - 1]) for name, climb in climbs.items()}


def _less(scores: Scores, others: Scores) -> Scores:
    return tuple(one - other for one, other in zip(scores, others, strict=True))


def shortfall(trial: Trial, rungs: Rungs) -> float | None:
    """By how much a trial misses what is required; None where nothing is."""
    if not rungs.rules.require:
        return None
    return rungs.rules.shortfall(trial.best) if trial.is_head and trial.best is not None else rungs.shortfall(trial)
