"""What the trainings after a search came to: what can be shipped, which of it is, and how sure its answers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from raysearch.pipeline.finals import Finalist, Finals
from raysearch.pipeline.races import CONFIDENCE
from raysearch.pipeline.shippable import Floats, Shippable
from raysearch.pipeline.threshold import best_threshold, cross_fitted
from raysearch.record.evaluation import Kind
from raysearch.training.calibration import fitted_temperature, logarithms
from raysearch.training.decisions import Decisions
from raysearch.training.paired import compare
from raysearch.workers.trainings import Outcome


@dataclass(frozen=True)
class Finish:
    """What the trainings after a search came to, and what is shipped of it."""

    finals: Finals
    chosen: Finalist
    refits: tuple[Outcome, ...]
    """Trained to their ends; of the chosen recipe, on all images that may be trained on."""
    seeds: tuple[Floats, ...]
    """Out-of-fold probabilities of single trainings of the chosen recipe, (n, classes) each; none without folds."""
    points: tuple[Shippable, ...]
    """All that can be shipped, with what it is worth out of fold; none without folds."""
    shipped: Kind
    others: Mapping[str, Outcome]
    """The trainings on all images of other recipes, which an ensemble may have as members, by trial."""
    in_folds: Mapping[str, tuple[tuple[Outcome, ...], ...]] = field(default_factory=dict)
    """The trainings on folds, by trial: those of each fold, in the order of their seeds, as far as they succeeded."""
    longer: Outcome | None = None
    """The chosen recipe's training without the first fold that is as long as for good: see `Finals.longer`."""
    student: Outcome | None = None
    """What learned from the refits' answers; None: there is none, or nothing out of fold is known of it."""
    students_in_folds: tuple[Outcome, ...] = ()
    """What learned from the answers of each fold's trainings."""

    @property
    def point(self) -> Shippable | None:
        """The one that is shipped; None without folds."""
        return next((point for point in self.points if point.kind == self.shipped), None)

    @cached_property
    def threshold(self) -> float | None:
        """The calibrated probability from which on the second of two classes is the answer.

        It is None where the likelier class is the answer: with more classes, with a goal that counts no answers, and
        where another threshold is not surely better out of fold, each fold answered at the one that the others choose.
        What is required comes first: see `best_threshold`. Figures out of fold are told at the stored one, which these
        images have chosen.
        """
        goal, classes = self.finals.goal, self.finals.classes
        if self.point is None or len(classes) != 2:
            return None
        logits, labels = logarithms(self.point.probabilities) / self.fold_temperature, self.finals.held_out_labels
        found = best_threshold(goal, logits, labels, classes)
        if found == 0.5:
            return None
        sizes = [len(out) for out in self.finals.held_out]
        moved = Decisions(logits, cross_fitted(goal, logits, labels, classes, sizes))
        groups = self.finals.held_out_groups
        return found if compare(goal, moved, Decisions(logits), labels, classes, CONFIDENCE, groups).surely else None

    @cached_property
    def fold_temperature(self) -> float:
        """What makes the out-of-fold answers of what is shipped as sure as they are right; 1 where there are none."""
        if self.point is None:
            return 1.0
        logits = logarithms(self.point.probabilities)
        return fitted_temperature(logits, torch.as_tensor(self.finals.held_out_labels))

    @cached_property
    def temperature(self) -> float:
        """What the logits of what is shipped are divided by.

        What is trained for longer is surer. By how much is measured on the first fold, which neither of two trainings
        of the chosen recipe has seen: the longer one's temperature over the shorter one's.
        """
        if self.point is None or not self.finals.effort.folds_are_short:
            return self.fold_temperature
        if self.longer is None:  # it failed: then it is only known that what is trained for longer is not less sure
            return max(1.0, self.fold_temperature)
        labels = torch.as_tensor(self.finals.labels[self.finals.held_out[0]])
        shorter = self.in_folds[self.chosen.trial][0][0]
        of_longer, of_shorter = (fitted_temperature(one.held_out_logits(), labels) for one in (self.longer, shorter))
        return self.fold_temperature * of_longer / of_shorter
