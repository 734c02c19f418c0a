"""Optuna by ask and tell: which recipe to try next, from the state of the search alone.

A study is rebuilt in memory for every question and its sampler is seeded by (seed, number), so a proposal is a pure
function of the log: a resumed search asks the same questions and gets the same answers as one that was never stopped.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from raysearch.recipe import Recipe, Stage
from raysearch.record.events import Role
from raysearch.record.info import Json
from raysearch.record.trial import Trial
from raysearch.search.asha import Scores
from raysearch.search.controller import Proposal
from raysearch.search.frozen_trials import Distributions, frozen_trial
from raysearch.search.packs import shape_of
from raysearch.search.rules import Rules
from raysearch.search.rungs import Rungs
from raysearch.search.state import SearchState
from raysearch.space.space import Space

Params = Json
"""Searched values by dotted path."""

# What TPE looks at: so many of the latest trials; keeps a proposal cheap however long the search and large the cluster.
_COMPARED = 400  # that reached a rung
_RUNNING = 100  # that did not yet: it keeps away from them


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

    def pack(self, number: int, at_most: int, state: SearchState) -> list[Proposal]:
        """Heads that share features, batches and shape, and differ in the rest.

        The first packs cover every combination of pooling and head that trials may ask for, each beginning with the
        default's learning rate and the like; later ones go where the sampler's first answer points.
        """
        if self._grid(heads=True):
            return self._grid_pack(number, at_most)
        shapes, packs = self.space.head_shapes(), state.packs.next_number
        size = min(self.space.search.pack, -(-at_most // max(1, len(shapes) - packs)))
        paths = {path: self.space.distributions[path] for path in self.space.head_paths()}
        study = self._study(paths, 2 * number + 1, state.packs.latest_first(), state.rungs)
        if packs < len(shapes):
            first = {path: self.space.default[path] for path in paths} | shapes[packs]
            if packs:  # or a small budget would see no other views and batches than the default's
                drawn = self._ask(study, paths, shapes[packs])
                first |= {path: drawn[path] for path in self.space.pack_paths()}
        else:
            first = self._ask(study, paths)
        shared = {path: first[path] for path in self.space.pack_paths()}
        others = (self._ask(study, paths, shared) for _ in range(size - 1))
        return [self._head(params) for params in (first, *others)]

    def _grid(self, *, heads: bool) -> bool:
        return self.space.search.sampler == "grid" and self.space.heads_only == heads

    def _grid_pack(self, number: int, at_most: int) -> list[Proposal]:
        """The next points of the grid that share a pack; those of a pack are neighbours."""
        paths = [*(shared := self.space.pack_paths()), *(p for p in self.space.head_paths() if p not in shared)]
        points = [self.space.grid_point(paths, number + i) for i in range(min(self.space.search.pack, at_most))]
        together = itertools.takewhile(lambda point: all(point[path] == points[0][path] for path in shared), points)
        return [self._head(point) for point in together]

    def _head(self, params: Params) -> Proposal:
        return Proposal(None, params, self.space.head_recipe(params, self.max_epochs), stage=0)

    def trial(self, number: int, state: SearchState, *, level: int, role: Role | None) -> Proposal:
        """A trial of the first level starts from the best head of its own shape, a later one from one of the beam."""
        if role == "control":
            return self._control(state, level)
        parents = self._parents(state, level)
        searched = self._distributions(level, parents, state)
        if role == "default":
            params = {path: self.space.default[path] for path in self.space.trial_paths(level)}
            params |= self._network_left(params, state)
            params |= {parent_path(level): parents[0].name} if parents else {}
        elif self._grid(heads=False):
            params = self.space.grid_point(list(searched), number)
        else:
            study = self._study(searched, 2 * number, state.tree.latest_first(level), state.rungs)
            params = self._ask(study, searched, self._in_turn(state.tree.begun_at(level), level, state))
        bounded = params if role == "default" else self._bounded(params, level, state)
        parent = state.trials[params[parent_path(level)]] if parents else None
        if parent is not None and self.space.networks:
            bounded = bounded | {"backbone": parent.network}
        recipe = self.space.recipe(bounded, self.max_epochs)
        if parent is not None:
            return Proposal(parent.name, params, _child(parent, recipe.schedule[level]), level)
        if not self.space.search.heads:
            return Proposal(None, params, recipe, stage=0)
        head = state.best_head(shape_of(recipe)) or state.packs.best_of(recipe.network) or state.best_head()
        assert head is not None
        start = head.recipe
        schedule = (start.schedule[0], recipe.schedule[1])
        recipe = recipe.model_copy(update={"schedule": schedule, "pooling": start.pooling, "head": start.head})
        return Proposal(head.name, params, recipe, stage=1)

    def _bounded(self, params: Params, level: int, state: SearchState) -> Params:
        """The values, with the learning rate moved from its place in the range to the same place between bounds."""
        path = f"schedule.{level}.learning_rate"
        distribution = self.space.distributions.get(path)
        depth = self.space.recipe(params, self.max_epochs).schedule[level].depth
        bounds = state.tree.rate_bounds.get(level, {}).get(depth)
        if bounds is None or not isinstance(distribution, FloatDistribution) or not distribution.log:
            return params
        place = math.log(params[path] / distribution.low) / math.log(distribution.high / distribution.low)
        low, high = bounds
        return params | {path: low * (high / low) ** place}

    def _control(self, state: SearchState, level: int) -> Proposal:
        """The leader's stage at its parent's depth: as long, and as fast, but with no block opened."""
        leader = state.tree.leaders.get(level)
        assert leader is not None and leader.parent is not None
        parent, recipe = state.trials[leader.parent], leader.recipe
        closed = recipe.schedule[level].model_copy(update={"depth": parent.depth})
        recipe = recipe.model_copy(update={"schedule": (*recipe.schedule[:level], closed)})
        return Proposal(parent.name, leader.params, recipe, level)

    def _parents(self, state: SearchState, level: int) -> list[Trial]:
        """The trials that those of a later level start from; the default's parent first."""
        if level == self.space.levels[0]:
            return []
        default = [one for one in state.tree.of_level(level - 1)[:1] if one.finished and one.able]
        return list({one.name: one for one in (*default, *state.tree.beam(level - 1))}.values())

    def _distributions(self, level: int, parents: Sequence[Trial], state: SearchState) -> dict[str, BaseDistribution]:
        own = {path: self.space.distributions[path] for path in self.space.trial_paths(level)}
        if "backbone" in own:
            own["backbone"] = CategoricalDistribution(state.networks)
        choice = CategoricalDistribution([one.name for one in parents]) if parents else None
        return own | ({parent_path(level): choice} if choice is not None else {})

    def _network_left(self, params: Params, state: SearchState) -> Params:
        """The default's network; the best of those that go on, if that one does not."""
        wanted = params.get("backbone")
        return {"backbone": state.networks[0]} if wanted is not None and wanted not in state.networks else {}

    def _in_turn(self, number: int, level: int, state: SearchState) -> Params:
        """The first half of the trials take the networks and depths in turn; at least as many as it takes to promote
        one of each.

        TPE, which then decides, would hardly ever go back to a depth whose first few learning rates were unlucky.
        """
        in_turn = {
            path: list(state.networks) if path == "backbone" else self.space.every_value(path)
            for path in (f"schedule.{level}.depth", "backbone")
            if path in self.space.trial_paths(level)
        }
        every = [dict(zip(in_turn, values, strict=True)) for values in itertools.product(*in_turn.values())]
        most = max(state.tree.share(level) // 2, len(every) * self.rules.reduction)
        return every[number % len(every)] if number < most else {}

    def _study(
        self, distributions: Distributions, question: int, latest_first: Iterable[Trial], rungs: Rungs
    ) -> optuna.Study:
        """What is known so far, with a sampler that answers this question."""
        # Distinct questions get distinct streams, whatever the seed.
        stream = (self.seed * 1_000_003 + question) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=stream)
            if self.space.search.sampler != "random":
                sampler = optuna.samplers.TPESampler(
                    seed=stream, multivariate=True, constant_liar=True, n_startup_trials=6
                )  # trials that miss what is required are the worst to it, the nearest before the others
            study = optuna.create_study(directions=["maximize"] * max(1, len(self.rules.several)), sampler=sampler)
            if distributions and self.space.search.sampler != "random":
                known = _recent(latest_first)
                scores = _comparable(known, rungs)
                study.add_trials([frozen_trial(trial, distributions, scores, _short(trial, rungs)) for trial in known])
        return study

    def _ask(self, study: optuna.Study, distributions: Distributions, fixed: Mapping[str, Any] | None = None) -> Params:
        """The study's next proposal, with some values given."""
        if not distributions:
            return {}
        sampler = study.sampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                if fixed:
                    study.sampler = optuna.samplers.PartialFixedSampler(dict(fixed), sampler)
                return study.ask(dict(distributions)).params
            finally:
                study.sampler = sampler


def _recent(latest_first: Iterable[Trial]) -> list[Trial]:
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


def _comparable(known: Sequence[Trial], rungs: Rungs) -> dict[str, Scores]:
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


def _short(trial: Trial, rungs: Rungs) -> float | None:
    """By how much a trial misses what is required; None where nothing is."""
    if not rungs.rules.require:
        return None
    return rungs.rules.shortfall(trial.best) if trial.is_head and trial.best is not None else rungs.shortfall(trial)


def _child(parent: Trial, stage: Stage) -> Recipe:
    """The parent's recipe with one more stage."""
    return parent.recipe.model_copy(update={"schedule": (*parent.recipe.schedule, stage)})


def parent_path(level: int) -> str:
    """Which trial of the level before one starts from, among the searched values."""
    return f"schedule.{level}.parent"
