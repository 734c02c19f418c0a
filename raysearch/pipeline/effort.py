"""How much is trained after a search, and how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysearch.recipe import Recipe
from raysearch.record.final_events import On

STUDENT_LENGTH = 2.0
"""How many times as many images a student is trained on, over all its epochs, as one of its teachers, at most."""
STUDENT_COST = 2.0
"""How many times as long one of these takes: the teachers answer, too."""


@dataclass(frozen=True)
class Effort:
    """How much is trained after the search.

    Args:
        folds: of the comparison; 0: none, and the winner of the search is taken as it is.
        challengers: how many are compared with the default.
        seeds: trainings of the chosen recipe in each fold; with two or more it is known what averaging them is worth.
        refits: trainings of the chosen recipe with fresh seeds on all images that it may be trained on.
        on: which images these are.
        fold_length: how many times as long as a trial a training on a fold is.
        final_length: how many times as long as a trial a refit is.
        student: how many times as many images a student sees, which is trained on each fold and on all images, as there
            are labelled ones; 0: none.
    """

    folds: int
    challengers: int
    seeds: int
    refits: int
    on: On
    fold_length: float = 1.0
    final_length: float = 1.0
    student: float = 0.0

    def less(self) -> Effort | None:
        """The next smaller effort of those worth having; None: there is none."""
        if self.student:
            return replace(self, student=0.0)
        if self.challengers > 1:
            return replace(self, challengers=1)
        if self.folds > 3:
            return replace(self, folds=3)
        if self.seeds > 1:
            return replace(self, seeds=1)
        if self.folds > 2:
            return replace(self, folds=2)
        if self.folds:
            return replace(self, folds=0, challengers=0, seeds=0)
        return None

    @property
    def folds_are_short(self) -> bool:
        """Whether a training on a fold takes fewer epochs than one for good."""
        return bool(self.folds) and self.fold_length < self.final_length

    def trainings(self) -> float:
        """How many trainings on all images, each as long as a trial, it may come to."""
        in_folds = max(0, self.folds - 1)  # as many of all images as the folds train on together
        steps = min(self.student, STUDENT_LENGTH) * STUDENT_COST
        of_students = steps * (in_folds * self.fold_length + self.final_length) if self.folds else 0.0
        on_folds = in_folds * (self.challengers + max(1, self.seeds)) * self.fold_length
        longer = in_folds / self.folds * self.final_length if self.folds_are_short else 0.0
        return self.refits * self.final_length + on_folds + longer + of_students


def smallest(effort: Effort) -> Effort:
    """The least that an effort can be cut down to: the refits alone."""
    while (less := effort.less()) is not None:
        effort = less
    return effort


def student_recipe(recipe: Recipe, effort: Effort, *, in_fold: bool) -> Recipe:
    """The recipe as a student has it: with several times as many images as its teachers, its last stage is shorter.

    Args:
        recipe: of its teachers.
        effort: with students.
        in_fold: whether a fold of the images with labels is held out, but none of those without.
    """
    images = 1 + (effort.student - 1) * (effort.folds / (effort.folds - 1) if in_fold else 1.0)
    *before, last = recipe.schedule
    epochs = max(1, round(last.epochs * min(1.0, STUDENT_LENGTH / images)))
    return recipe.model_copy(update={"schedule": (*before, last.model_copy(update={"epochs": epochs}))})


def final_recipe(
    recipe: Recipe, kept_epochs: Sequence[int], length: float, ended_rates: Sequence[float | None] = ()
) -> Recipe:
    """The recipe as it is trained where no image is left to stop by.

    Each stage ends with as many epochs as the search kept of it; those after the head's are `length` times as long, for
    there is no rival to be compared with after equal epochs any more. A plateau would wait for validation images: the
    rate falls by a cosine instead. That leaves nothing to inherit: a stage that takes over the rate of the one before
    gets the rate that it began with in the search. Where that is not known, the one before it keeps its own rate.

    Args:
        recipe: of the trial.
        kept_epochs: of each stage; 0 where the stage kept what it began with.
        length: at least 1.
        ended_rates: the learning rate of each stage's last step in the search; None, or left out: it is not known.
    """
    schedule, rates = [], [*ended_rates, *[None] * len(recipe.schedule)]
    for index, (stage, epochs) in enumerate(zip(recipe.schedule, kept_epochs, strict=True)):
        longer = length if index or len(recipe.schedule) == 1 else 1.0
        changes: dict[str, Any] = {"epochs": max(1, round(longer * epochs))}
        if stage.course == "plateau":
            heir = any(after.inherit is not None for after in recipe.schedule[index + 1 : index + 2])
            changes["course"] = "constant" if heir and not rates[index] else "cosine"
        if stage.inherit is not None and (rate := rates[index - 1]):
            changes |= {"learning_rate": stage.inherit * rate, "inherit": None}
        schedule.append(stage.model_copy(update={**changes, "early_stopping_epochs": None, "keep": "last"}))
    return recipe.model_copy(update={"schedule": tuple(schedule)})
