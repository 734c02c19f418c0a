"""A study that is written at once is the study that Optuna would have written trial by trial."""

from __future__ import annotations

import math
from datetime import timedelta

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysearch.search.study_file import write_trials

DISTRIBUTIONS = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "units": IntDistribution(1, 64),
    "course": CategoricalDistribution(["cosine", None, 2]),
}


def trial(state: TrialState, value: float | None, course: str | int | None) -> FrozenTrial:
    return create_trial(
        state=state,
        value=value,
        params={"rate": 1e-3, "dropout": 0.2, "units": 7, "course": course},
        distributions=DISTRIBUTIONS,
        user_attrs={"trial": "t0001", "parent": None, "epochs": 3},
        intermediate_values={1: math.inf, 2: math.nan, 3: 0.5},
    )


def made() -> list[FrozenTrial]:
    """Trials that begin when this is called: Optuna writes when that was."""
    return [
        trial(TrialState.COMPLETE, 0.5, "cosine"),
        trial(TrialState.COMPLETE, -math.inf, 2),
        trial(TrialState.PRUNED, 0.25, None),
        trial(TrialState.FAIL, None, 2),
        trial(TrialState.RUNNING, None, None),
    ]


def test_it_is_what_optuna_writes(tmp_path):
    studies, trials = [], made()
    for name in ("one by one", "at once"):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/{name}.db")
        study = optuna.create_study(study_name="a run", storage=storage, direction="maximize")
        if name == "one by one":
            study.add_trials(trials)
        else:
            write_trials(storage, "a run", trials)
        studies.append(optuna.load_study(study_name="a run", storage=storage))
    ours, theirs = studies[1].trials, studies[0].trials
    assert len(ours) == len(trials)
    for mine, its in zip(ours, theirs, strict=True):
        for about in ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs"):
            assert getattr(mine, about) == getattr(its, about), about
        assert repr(mine.intermediate_values) == repr(its.intermediate_values)
        assert (mine.datetime_complete is None) == (its.datetime_complete is None)
        assert abs(mine.datetime_start - its.datetime_start) < timedelta(minutes=10), "in the same time zone"
    studies[1].optimize(lambda asked: asked.suggest_int("units", 1, 64), n_trials=1)
    assert [one.number for one in studies[1].trials] == list(range(len(trials) + 1))
    for study in studies:
        study._storage.remove_session()
        study._storage._backend.engine.dispose()
