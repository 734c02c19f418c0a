"""Optuna by ask and tell: which recipe to try next, from the state of the search alone.

A study is rebuilt in memory for every question and its sampler is seeded by (seed, number), so a proposal is a pure
function of the log: a resumed search asks the same questions and gets the same answers as one that was never stopped.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from raysearch.recipe import Recipe, Stage
from raysearch.record.events import Role
from raysearch.record.info import Json
from raysearch.record.prior import PriorTrial
from raysearch.record.trial import Trial
from raysearch.search.compared import comparable, recent, shortfall
from raysearch.search.controller import Proposal
from raysearch.search.frozen_trials import Distributions, frozen_trial
from raysearch.search.packs import shape_of
from raysearch.search.prior import beside, still_there
from raysearch.search.rules import Rules
from raysearch.search.rungs import Rungs
from raysearch.search.state import SearchState
from raysearch.space.first import first_recipes
from raysearch.space.space import Space

Params = Json
"""Searched values by dotted path."""

STARTUP_TRIALS = 6
"""Trials that the learning sampler draws at random before it learns."""


@dataclass(frozen=True)
class _Drawn:
    """The values of a trial or head, and whose they are."""

    values: Params
    literal: bool = False
    """Whether they are meant as they are, whatever a range test says: those of recipes that a person named."""
    first: int | None = None
    """Which of the space's first recipes it is."""
    prior: int = 0
    """How many trials of earlier runs the sampler knew of when it drew them."""


@dataclass(frozen=True)
class OptunaProposer:
    """Proposes heads and trials of one space.

    Args:
        space: the checked space.
        rules: how trials are scored.
        seed: of the search.
        max_epochs: the longest last stage.
        prior: trials of earlier runs, in the order in which they stay: see `raysearch.search.prior`.
    """

    space: Space
    rules: Rules
    seed: int
    max_epochs: int
    prior: Sequence[PriorTrial] = ()

    def pack(self, number: int, at_most: int, state: SearchState) -> list[Proposal]:
        """Heads that share features, batches and shape, and differ in the rest.

        The first packs cover every combination of pooling and head that trials may ask for, each beginning with the
        default's learning rate and the like; later ones go where the sampler's first answer points.
        """
        if self._grid(heads=True):
            return self._grid_pack(number, at_most)
        begun, named, shapes = state.packs.next_number, self._named_heads(), self.space.head_shapes()
        covered = [one for heads in named for one in heads]
        shapes = [shape for shape in shapes if not any(shape.items() <= one.values.items() for one in covered)]
        size = min(self.space.search.pack, -(-at_most // max(1, len(named) + len(shapes) - begun)))
        paths = {path: self.space.distributions[path] for path in self.space.head_paths()}
        told = [one for one in self.prior if one["head"]]
        study, earlier = self._study(paths, 2 * number + 1, state.packs.latest_first(), state.rungs, told)
        if begun < len(named):
            heads = named[begun][:at_most]
        elif begun < len(named) + len(shapes):
            heads = [_Drawn(self._of_shape(shapes[begun - len(named)], paths, study), prior=earlier)]
        else:
            heads = [_Drawn(self._ask(study, paths), prior=earlier)]
        shared = {path: heads[0].values[path] for path in self.space.pack_paths()}
        others = (_Drawn(self._ask(study, paths, shared), prior=earlier) for _ in range(size - len(heads)))
        return [self._head(one) for one in (*heads, *others)]

    def _of_shape(self, shape: Params, paths: Distributions, study: optuna.Study) -> Params:
        """The default's head in another shape, with views and batches of its own: or a small budget would see none but
        the default's.
        """
        drawn, shared = self._ask(study, paths, shape), self.space.pack_paths()
        return {path: self.space.default[path] for path in paths} | shape | {path: drawn[path] for path in shared}

    def _named_heads(self) -> list[list[_Drawn]]:
        """The default's head and, where heads are all that is searched, those that the space names, by packs."""
        paths, shared = self.space.head_paths(), self.space.pack_paths()
        named = [_Drawn({path: self.space.default[path] for path in paths})]
        if self.space.heads_only:
            named += [_Drawn(one.values, first=one.number) for one in first_recipes(self.space)]
        together: dict[tuple[Any, ...], list[_Drawn]] = {}
        for one in named:
            together.setdefault(tuple(one.values[path] for path in shared), []).append(one)
        most = self.space.search.pack
        return [heads[i : i + most] for heads in together.values() for i in range(0, len(heads), most)]

    def _grid(self, *, heads: bool) -> bool:
        return self.space.search.sampler == "grid" and self.space.heads_only == heads

    def _grid_pack(self, number: int, at_most: int) -> list[Proposal]:
        """The next points of the grid that share a pack; those of a pack are neighbours."""
        paths = [*(shared := self.space.pack_paths()), *(p for p in self.space.head_paths() if p not in shared)]
        points = [self.space.grid_point(paths, number + i) for i in range(min(self.space.search.pack, at_most))]
        together = itertools.takewhile(lambda point: all(point[path] == points[0][path] for path in shared), points)
        return [self._head(_Drawn(point)) for point in together]

    def _head(self, drawn: _Drawn) -> Proposal:
        recipe = self.space.head_recipe(drawn.values, self.max_epochs)
        return Proposal(None, drawn.values, recipe, stage=0, first=drawn.first, prior=drawn.prior)

    def trial(self, number: int, state: SearchState, *, level: int, role: Role | None) -> Proposal:
        """A trial of the first level starts from the best head of its own shape, a later one from one of the beam."""
        if role == "control":
            return self._control(state, level)
        parents = self._parents(state, level)
        drawn = self._drawn(number, parents, state, level, role)
        parent = state.trials[drawn.values[parent_path(level)]] if parents else None
        return replace(self._started(drawn, parent, state, level), first=drawn.first, prior=drawn.prior)

    def _drawn(
        self, number: int, parents: Sequence[Trial], state: SearchState, level: int, role: Role | None
    ) -> _Drawn:
        """The values of a trial: the default's, the space's own first ones in their order, then the sampler's."""
        if role == "default":
            values = {path: self.space.default[path] for path in self.space.trial_paths(level)}
            values |= self._network_left(values, state)
            return _Drawn(values | ({parent_path(level): parents[0].name} if parents else {}), literal=True)
        searched = self._distributions(level, parents, state)
        if self._grid(heads=False):
            return _Drawn(self.space.grid_point(list(searched), number))
        begun = state.tree.begun_at(level)
        named = first_recipes(self.space) if level == self.space.levels[0] else []
        if 0 < begun <= len(named):  # the default came before
            one = named[begun - 1]
            return _Drawn(one.values | self._network_left(one.values, state), literal=True, first=one.number)
        told = [one for one in self.prior if not one["head"] and one["stage"] == level]
        study, earlier = self._study(searched, 2 * number, state.tree.latest_first(level), state.rungs, told)
        return _Drawn(self._ask(study, searched, self._in_turn(begun, level, state)), prior=earlier)

    def _started(self, drawn: _Drawn, parent: Trial | None, state: SearchState, level: int) -> Proposal:
        """The trial of these values, from its parent, or from the best head of its own shape."""
        params = drawn.values
        values = params if drawn.literal else self._bounded(params, level, state)
        if parent is not None and self.space.networks:
            values = values | {"backbone": parent.network}
        recipe = self.space.recipe(values, self.max_epochs)
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
        self,
        distributions: Distributions,
        question: int,
        latest_first: Iterable[Trial],
        rungs: Rungs,
        told: Sequence[PriorTrial],
    ) -> tuple[optuna.Study, int]:
        """What is known so far, with a sampler that answers this question; and how much of it is of earlier runs."""
        earlier: list[PriorTrial] = []
        # Distinct questions get distinct streams, whatever the seed.
        stream = (self.seed * 1_000_003 + question) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=stream)
            if self.space.search.sampler != "random":
                sampler = tpe(stream)
            metrics = max(1, len(self.rules.several))
            study = optuna.create_study(directions=["maximize"] * metrics, sampler=sampler)
            if distributions and self.space.search.sampler != "random":
                known = recent(latest_first)
                scores = comparable(known, rungs)
                own = [each for each in scores.values() if all(map(math.isfinite, each))]
                earlier = still_there(told, distributions, len(own))
                # They come first, so that they are the oldest to whatever in the sampler forgets.
                study.add_trials(beside(earlier, distributions, own, metrics, bool(self.rules.require)))
                study.add_trials(
                    [frozen_trial(trial, distributions, scores, shortfall(trial, rungs)) for trial in known]
                )
        return study, len(earlier)

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


def tpe(seed: int) -> optuna.samplers.TPESampler:
    """The sampler that learns. Trials that miss what is required are the worst to it, the nearest before the others."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=STARTUP_TRIALS)


def _child(parent: Trial, stage: Stage) -> Recipe:
    """The parent's recipe with one more stage."""
    return parent.recipe.model_copy(update={"schedule": (*parent.recipe.schedule, stage)})


def parent_path(level: int) -> str:
    """Which trial of the level before one starts from, among the searched values."""
    return f"schedule.{level}.parent"
