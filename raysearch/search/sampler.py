"""Optuna by ask and tell: which recipe to try next, from the state of the search alone.

A study is rebuilt in memory for every question and its sampler is seeded by (seed, number), so a proposal is a pure
function of the log: a resumed search asks the same questions and gets the same answers as one that was never stopped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysearch.files import replace_with
from raysearch.recipe import Recipe
from raysearch.search.controller import Controller, Event, Rules, Trial
from raysearch.space import Space

_HISTORY = 500  # finished trials that TPE looks at; keeps a proposal cheap however long the search


@dataclass(frozen=True)
class OptunaProposer:
    """Proposes heads and trials of one space.

    Args:
        space: the checked space.
        rules: how trials are scored.
        seed: of the search.
        max_epochs: the longest last stage.
    """

    space: Space
    rules: Rules
    seed: int
    max_epochs: int

    def head(self, number: int, state: Controller) -> Event:
        """Heads cover every combination of pooling and head that the trials may ask for, then follow the sampler."""
        shapes = self._shapes()
        params = self._ask(self.space.head_paths(), 2 * number + 1, [t for t in state.trials.values() if t.is_head])
        if number < len(shapes):
            default = {path: value for path, value in self.space.default.items() if path in params}
            params = default | shapes[number]
        recipe = self.space.recipe(params, self.max_epochs)
        # Its own stage alone: if it wins, that is what is trained again.
        recipe = recipe.model_copy(update={"schedule": recipe.schedule[:1]})
        return _event(None, params, recipe, stage=0)

    def trial(self, number: int, state: Controller) -> Event:
        """Trial 0 is the default; every trial starts from the best head of its own shape, and takes over its stage."""
        paths = self.space.trial_paths()
        if number == 0:
            params = {path: self.space.default[path] for path in paths}
        else:
            params = self._ask(paths, 2 * number, [t for t in state.trials.values() if not t.is_head])
        recipe = self.space.recipe(params, self.max_epochs)
        if not self.space.search.heads:
            return _event(None, params, recipe, stage=0)
        head = state.best_head(**{key: recipe.model_dump()[key] for key in ("pooling", "head")}) or state.best_head()
        assert head is not None
        start = Recipe.model_validate(head.recipe)
        schedule = (start.schedule[0], *recipe.schedule[1:])
        recipe = recipe.model_copy(update={"schedule": schedule, "pooling": start.pooling, "head": start.head})
        return _event(head.name, params, recipe, stage=1)

    def _shapes(self) -> list[dict[str, Any]]:
        """Each combination of the searched fields that decide a head's tensors; the default's comes first."""
        shapes: list[dict[str, Any]] = [{}]
        for path in self.space.head_shape_paths():
            distribution = self.space.distributions[path]
            first = self.space.default[path]
            values = [first, *(value for value in _choices(distribution) if value != first)]
            shapes = [shape | {path: value} for value in values for shape in shapes]
        return shapes

    def _ask(self, paths: list[str], question: int, known: list[Trial]) -> dict[str, Any]:
        distributions = {path: self.space.distributions[path] for path in paths}
        if not distributions:
            return {}
        # Distinct questions get distinct streams, whatever the seed.
        stream = (self.seed * 1_000_003 + question) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.space.search.sampler == "random":
                sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=stream)
                known = []
            else:
                sampler = optuna.samplers.TPESampler(
                    seed=stream, multivariate=True, constant_liar=True, n_startup_trials=6
                )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials([_frozen(trial, distributions, self.rules) for trial in known[-_HISTORY:]])
            return study.ask(distributions).params


def _event(parent: str | None, params: dict[str, Any], recipe: Recipe, stage: int) -> Event:
    dumped = recipe.model_dump(mode="json")
    return {"parent": parent, "depth": recipe.schedule[stage].depth, "params": params, "recipe": dumped, "stage": stage}


def _choices(distribution: BaseDistribution) -> Iterable[Any]:
    if not isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return []
    return distribution.choices


def _frozen(trial: Trial, distributions: dict[str, BaseDistribution], rules: Rules) -> FrozenTrial:
    """A trial as Optuna knows it; a stopped one counts with its best so far, which going on could only have raised."""
    state, value = TrialState.RUNNING, None
    if trial.failed:
        state = TrialState.FAIL
    elif trial.best is not None:
        state, value = TrialState.COMPLETE, rules.score(trial.best) if trial.is_head else trial.score
    params = {path: trial.params[path] for path in distributions}
    return create_trial(state=state, value=value, params=params, distributions=distributions)


def export_study(path: Path, state: Controller, space: Space, name: str) -> None:
    """Write the whole study as an SQLite file that optuna-dashboard opens, replacing `path` at once.

    Trials keep their names, states and intermediate values (the metric itself, not the score).
    """
    direction: Literal["maximize", "minimize"] = "maximize" if state.rules.larger_is_better else "minimize"
    distributions = {key: space.distributions[key] for key in space.trial_paths()}

    def write(temporary: Path) -> None:
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        study = optuna.create_study(study_name=name, storage=storage, direction=direction)
        for trial in state.trials.values():
            if not trial.is_head:
                study.add_trial(_exported(trial, distributions, state.rules))
        storage.remove_session()
        storage.engine.dispose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replace_with(path, write)


def _exported(trial: Trial, distributions: dict[str, BaseDistribution], rules: Rules) -> FrozenTrial:
    states = {"failed": TrialState.FAIL, "done": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    state = states.get(trial.state, TrialState.RUNNING)
    value = float(trial.best[rules.metric]) if trial.best is not None else None
    return create_trial(
        state=state,
        value=value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params={path: trial.params[path] for path in distributions},
        distributions=distributions,
        user_attrs={"trial": trial.name, "parent": trial.parent, "epochs": trial.epochs},
        intermediate_values={trial.epochs: value} if value is not None else {},
    )
