"""Which recipe is trained for good, and what becomes of its trainings: decided out of fold, on every labelled image.

A search compares recipes on some hundred validation images, which cannot tell those apart that differ by a point. So
its best few, the default always among them, are trained anew on folds of all training and validation images; what each
says of the images that it had not seen is compared image by image. The default is kept unless a challenger is better by
more than chance explains. One fold after another is trained, and a challenger that is not ahead of the default is
dropped: it would have to make up for that and win beyond chance in what is left.

Nothing here trains, and nothing looks at a test image: from what is done follows what is wanted, and in the end the
choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.pipeline.effort import Effort, student_recipe
from raysearch.pipeline.races import Race, choose, confidence_among
from raysearch.pipeline.shippable import Floats, greedy
from raysearch.pipeline.threshold import at_best_threshold
from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.training.order import QUICK_VALIDATION_BATCH, quick_places
from raysearch.training.paired import compare
from raysearch.training.stratified import stratified_folds
from raysearch.workers.order import Training
from raysearch.workers.trainings import Outcome, succeeded


@dataclass(frozen=True)
class Finalist:
    """One of the recipes that are compared."""

    trial: str
    on_folds: Recipe
    """The recipe as it is compared."""
    for_good: Recipe
    """The recipe as it is trained on all images, perhaps longer: see `raysearch.pipeline.effort.final_recipe`."""


@dataclass(frozen=True)
class Finals:
    """The comparison, and the trainings that follow from it.

    Args:
        finalists: the default first; without folds, the one that was chosen otherwise.
        effort: how much of it.
        labels: of all training and validation images, in this order, integer (n,).
        classes: their names.
        goal: by which recipes are compared.
        seed: of the search.
    """

    finalists: tuple[Finalist, ...]
    effort: Effort
    labels: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    goal: Goal
    seed: int
    max_batches: int | None = None
    """For a quick look, how many images a fold is judged by; None: all its images."""
    asked: str | None = None
    """The trial that is trained for good because somebody asked for it; None: the comparison chooses."""
    groups: NDArray[np.int64] | None = field(default=None, repr=False)
    """A number that images have in common which must not be parted, as `labels` are; None: all differ."""
    _raced: dict[tuple[str, int], tuple[list[Outcome | None], Race]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """Comparisons that were made, by challenger and folds, with the outcomes that they are of."""

    @property
    def confidence(self) -> float:
        """Of the interval of each challenger's difference from the default."""
        return confidence_among(len(self.finalists) - 1)

    @cached_property
    def held_out(self) -> list[NDArray[np.int64]]:
        """The images that each fold holds out, by their places in `labels`, ascending."""
        if not self.effort.folds:
            return []
        folds = (out for _, out in stratified_folds(self.effort.folds, self.labels, self.seed, self.groups))
        return [out[quick_places(len(out), self.max_batches, QUICK_VALIDATION_BATCH)] for out in folds]

    @cached_property
    def held_out_labels(self) -> NDArray[np.int64]:
        """The labels of all held-out images, fold after fold, which is the order of everything that is out of fold."""
        return self.labels[np.concatenate(self.held_out)]

    @cached_property
    def held_out_groups(self) -> NDArray[np.int64] | None:
        """The groups of all held-out images, in the same order."""
        return None if self.groups is None else self.groups[np.concatenate(self.held_out)]

    def seeds(self, number: int) -> list[int]:
        """Seeds that the search itself has not used: it uses `seed` alone."""
        return [1000 * (self.seed + 1) + one for one in range(number)]

    # ---- what is wanted ------------------------------------------------------------------------------------------

    def wanted(self, done: Mapping[str, Outcome]) -> list[Training]:
        """All trainings that are wanted by now, done or not, those first that others wait for."""
        folds = range(self.effort.folds)
        wanted = [self.in_fold(one, fold, 0) for fold in folds for one in self._racing(done, fold)]
        if (chosen := self.chosen(done)) is None:
            return wanted
        wanted += [self.in_fold(chosen, fold, seed) for seed in range(1, self.effort.seeds) for fold in folds]
        members = self.members(done) or {}
        others = [one for one in self.finalists if one is not chosen and one.trial in members]
        wanted += [*self.refits(chosen), *(self.refits(one)[0] for one in others), *self.longer(chosen)]
        return [*wanted, *self.students(chosen, done)]

    def in_fold(self, one: Finalist, fold: int, number: int) -> Training:
        """A finalist's training without a fold, with the seed of that number; its head is the first one's."""
        seeds, which = self.seeds(number + 1), (fold, self.effort.folds)
        name = f"fold-{one.trial}-{fold + 1}of{self.effort.folds}-{seeds[number]}"
        recipe = one.on_folds.model_copy(update={"seed": seeds[number]})
        return Training(name, one.trial, recipe, seeds[0], "train+val", which)

    def longer(self, one: Finalist) -> list[Training]:
        """Where trainings on folds are shorter than for good: one without the first fold that is not."""
        if not self.effort.folds_are_short:
            return []
        short = self.in_fold(one, 0, 0)
        recipe = one.for_good.model_copy(update={"seed": short.recipe.seed})
        return [replace(short, name=f"{short.name}-longer", recipe=recipe)]

    def refits(self, one: Finalist) -> list[Training]:
        """The trainings on all images that may be trained on, with fresh seeds from one head."""
        seeds = self.seeds(self.effort.refits)
        recipes = [one.for_good.model_copy(update={"seed": seed}) for seed in seeds]
        names = [f"refit-{one.trial}-{seed}" for seed in seeds]
        return [
            Training(name, one.trial, recipe, seeds[0], self.effort.on)
            for name, recipe in zip(names, recipes, strict=True)
        ]

    def students(self, chosen: Finalist, done: Mapping[str, Outcome]) -> list[Training]:
        """The students whose teachers are trained: one without each fold, and then the one that learns from the refits.

        A fold's teachers are the trainings without it, so that what it holds out judges both.
        """
        if not self.effort.student:
            return []
        folds = [(fold, self._sound(self.of_fold(chosen, fold), done)) for fold in range(self.effort.folds)]
        taught = [self._student(chosen, fold, names) for fold, names in folds if names]
        everything = self._sound(self.refits(chosen), done)
        return [*taught, *([self._student(chosen, None, everything)] if everything else [])]

    def of_fold(self, one: Finalist, fold: int) -> list[Training]:
        """A finalist's trainings without a fold, one a seed."""
        return [self.in_fold(one, fold, number) for number in range(self.effort.seeds)]

    def _sound(self, teachers: Sequence[Training], done: Mapping[str, Outcome]) -> tuple[str, ...]:
        """Those of them that succeeded; none as long as not all are done."""
        if not all(one.name in done for one in teachers):
            return ()
        return tuple(one.training.name for one in succeeded(teachers, done))

    def _student(self, one: Finalist, fold: int | None, teachers: tuple[str, ...]) -> Training:
        seed, folds = self.seeds(1)[0], self.effort.folds
        where = "all" if fold is None else f"{fold + 1}of{folds}"
        of_teachers, in_fold = (one.for_good, False) if fold is None else (one.on_folds, True)
        recipe = student_recipe(of_teachers, self.effort, in_fold=in_fold)
        recipe = recipe.model_copy(update={"seed": seed})
        held_out = None if fold is None else (fold, folds)
        return Training(f"student-{one.trial}-{where}", one.trial, recipe, seed, "train+val", held_out, teachers)

    # ---- what is decided -----------------------------------------------------------------------------------------

    def races(self, done: Mapping[str, Outcome]) -> list[Race]:
        """How each challenger stood after each fold that it and the default were trained on, in order."""
        default, *challengers = self.finalists
        return [
            race
            for folds in range(1, self.effort.folds + 1)
            for one in challengers
            if (race := self._race(default, one, folds, done)) is not None
        ]

    def chosen(self, done: Mapping[str, Outcome]) -> Finalist | None:
        """The one to train for good; None as long as that is open."""
        default, *challengers = self.finalists
        if not self.effort.folds or not challengers:
            return default
        if any(self._is_open(one, done) for one in challengers):
            return None
        name = self.asked or choose(default.trial, self.races(done), self.effort.folds)
        return next(one for one in self.finalists if one.trial == name)

    def members(self, done: Mapping[str, Outcome]) -> dict[str, float] | None:
        """The ensemble, by trial with its weight: chosen greedily among the candidates; None while these are open."""
        if (candidates := self.candidates(done)) is None:
            return None
        return greedy(candidates, self.held_out_labels, self.classes, self.goal) if candidates else {}

    def candidates(self, done: Mapping[str, Outcome]) -> dict[str, Floats] | None:
        """Out-of-fold probabilities, by trial, of the recipes that were trained on every fold: an ensemble's members.

        Trainings of the chosen recipe are alike and count as one. None as long as they are not done.
        """
        chosen = self.chosen(done)
        if chosen is None or not self.effort.folds:
            return None
        trainings = (one for fold in range(self.effort.folds) for one in self.of_fold(chosen, fold))
        if not all(one.name in done for one in trainings):
            return None
        if not (seeds := self.chosen_seeds(chosen, done)):
            return {}
        others = {
            one.trial: found
            for one in self.finalists
            # What is shipped takes images of one size.
            if one is not chosen and one.for_good.image_size == chosen.for_good.image_size
            if (found := self.out_of_fold(one, 0, done)) is not None
        }
        return {chosen.trial: np.mean(seeds, axis=0), **others}

    def chosen_seeds(self, chosen: Finalist, done: Mapping[str, Outcome]) -> list[Floats]:
        """Out-of-fold probabilities of each of its seeds that was trained on every fold."""
        found = (self.out_of_fold(chosen, number, done) for number in range(self.effort.seeds))
        return [one for one in found if one is not None]

    def out_of_fold(self, one: Finalist, number: int, done: Mapping[str, Outcome]) -> Floats | None:
        """Probabilities of all held-out images, (n, classes), by a finalist's trainings with one of its seeds."""
        logits = self._logits(one, self.effort.folds, number, done)
        return None if logits is None else torch.softmax(logits.double(), dim=1).numpy()

    def student_out_of_fold(self, chosen: Finalist, done: Mapping[str, Outcome]) -> Floats | None:
        """Probabilities of all held-out images, (n, classes), by their folds' students; None if one is missing."""
        outcomes = self.student_folds(chosen, done)
        if len(outcomes) < max(1, self.effort.folds):
            return None
        logits = torch.cat([outcome.held_out_logits() for outcome in outcomes])
        return torch.softmax(logits.double(), dim=1).numpy()

    def student_folds(self, chosen: Finalist, done: Mapping[str, Outcome]) -> list[Outcome]:
        """The students without each fold, in the folds' order, as far as they succeeded."""
        return succeeded((one for one in self.students(chosen, done) if one.fold is not None), done)

    def student(self, chosen: Finalist, done: Mapping[str, Outcome]) -> Outcome | None:
        """The student that learned from all images, if it succeeded."""
        return next(iter(succeeded((one for one in self.students(chosen, done) if one.fold is None), done)), None)

    def _racing(self, done: Mapping[str, Outcome], fold: int) -> list[Finalist]:
        """Those that are trained on this fold: the default, and the challengers that no earlier one has dropped."""
        default, *challengers = self.finalists
        return [default, *(one for one in challengers if self._reaches(one, fold, done))]

    def _reaches(self, one: Finalist, fold: int, done: Mapping[str, Outcome]) -> bool:
        if not fold:
            return True
        if one.trial == self.asked:  # whatever becomes of the default
            return not self._failed(one, fold, done)
        race = self._race(self.finalists[0], one, fold, done)
        return race is not None and race.goes_on and self._reaches(one, fold - 1, done)

    def _is_open(self, one: Finalist, done: Mapping[str, Outcome]) -> bool:
        """Whether a challenger may still win: it has folds to go, or the default has."""
        for folds in range(1, self.effort.folds + 1):
            if self._failed(one, folds, done) or self._failed(self.finalists[0], folds, done):
                return False
            race = self._race(self.finalists[0], one, folds, done)
            if race is None:
                return True
            if not race.goes_on:
                return False
        return False

    def _failed(self, one: Finalist, folds: int, done: Mapping[str, Outcome]) -> bool:
        names = [self.in_fold(one, fold, 0).name for fold in range(folds)]
        return any(name in done and done[name].error is not None for name in names)

    def _race(self, default: Finalist, one: Finalist, folds: int, done: Mapping[str, Outcome]) -> Race | None:
        outcomes = [done.get(self.in_fold(who, fold, 0).name) for who in (one, default) for fold in range(folds)]
        before, race = self._raced.get((one.trial, folds), (outcomes, None))
        if race is not None and all(a is b for a, b in zip(before, outcomes, strict=True)):
            return race  # it is asked for after each training, and a bootstrap takes a second or more
        known = [logits for who in (one, default) if (logits := self._logits(who, folds, 0, done)) is not None]
        if len(known) < 2:
            return None
        labels = self.labels[np.concatenate(self.held_out[:folds])]
        ours, theirs = (at_best_threshold(self.goal, logits, labels, self.classes) for logits in known)
        groups = None if self.held_out_groups is None else self.held_out_groups[: len(labels)]
        difference = compare(self.goal, ours, theirs, labels, self.classes, self.confidence, groups)
        race = Race(one.trial, folds, difference, asked=one.trial == self.asked)
        self._raced[one.trial, folds] = outcomes, race
        return race

    def _logits(self, one: Finalist, folds: int, seed_number: int, done: Mapping[str, Outcome]) -> torch.Tensor | None:
        """The logits of the images of the first folds, in the folds' order; None if one is missing."""
        outcomes = [done.get(self.in_fold(one, fold, seed_number).name) for fold in range(folds)]
        if any(outcome is None or outcome.error is not None for outcome in outcomes):
            return None
        return torch.cat([outcome.held_out_logits() for outcome in outcomes if outcome is not None])
