"""What the one look at the test images found, as evaluation.json, predictions.parquet and best/ have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raysearch.data.dataset import Split
from raysearch.intervals import effective_number, numbered_groups
from raysearch.job.job import Job
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.frontier import frontier
from raysearch.pipeline.measured_networks import Models, Seen
from raysearch.pipeline.required import Answers, Known, required
from raysearch.pipeline.shippable import Floats, Shippable
from raysearch.record.decision import decided
from raysearch.record.evaluation import (
    EvaluationDocument,
    Kind,
    Metrics,
    ShippedFigures,
)
from raysearch.record.line import Row
from raysearch.record.trial import Trial
from raysearch.training.calibration import logarithms, tempered
from raysearch.winner.confidence import calibration_error, reliability
from raysearch.winner.evaluate import Evaluation, detailed_metrics, evaluation_document
from raysearch.winner.shipment import Confidence, Network, Shipment, equal_shares

Labels = NDArray[np.int64]


class Measured:
    """What was seen, put together.

    Args:
        job: the settings and what they name.
        finish: what was trained after the search, and what is shipped of it; None: the winner as it was.
        models: the networks that were looked at.
        single: which of the fresh trainings stands for all where one has to.
        seen: by what was looked at.
    """

    def __init__(
        self, job: Job, finish: Finish | None, models: Models, single: int, seen: Mapping[Seen, Evaluation]
    ) -> None:
        self._job, self._finish, self._models, self._single, self._seen = job, finish, models, single, seen
        self._on = "train" if finish is None else finish.finals.effort.on

    # ---- what is shipped -----------------------------------------------------------------------------------------

    def shipment(self) -> Shipment:
        """What goes into best/."""
        models, kind = self._models, self._kind
        recipe = models.recipes[self._single]
        if kind == "ensemble" and self._point is not None:
            networks = [
                network
                for member in self._point.members
                for network in self._networks(member.trial, member.weight, member.networks)
            ]
            return Shipment(kind, tuple(networks), confidence=self.confidence)
        if kind == "student" and models.student is not None and self._finish is not None and self._finish.student:
            taught = self._finish.student.training.recipe
            return Shipment(kind, (Network(taught, models.student),), confidence=self.confidence)
        averaged = models.averaged is not None and kind != "single"
        classifier = models.averaged if averaged else models.singles[self._single]
        assert classifier is not None
        return Shipment(kind, (Network(recipe, classifier),), kind == "mirror", self.confidence)

    def _networks(self, trial: str, weight: float, networks: int) -> list[Network]:
        if trial == self._models.trial:
            return equal_shares(self._models.recipes[0], self._models.singles[:networks], weight)
        member = self._models.members[trial]
        return [Network(member.recipe, member.network, weight)]

    @property
    def first_trial(self) -> str:
        """By whose recipe the first of the shipped networks was trained."""
        if self._kind == "ensemble" and self._point is not None:
            return self._point.members[0].trial
        return self._models.trial

    @property
    def _kind(self) -> Kind:
        return self._finish.shipped if self._finish is not None else "single"

    @property
    def _point(self) -> Shippable | None:
        return self._finish.point if self._finish is not None else None

    @cached_property
    def confidence(self) -> Confidence:
        """How sure what is shipped may be, by what is known out of fold."""
        if self._finish is None or self._point is None:
            return Confidence()
        shares = tempered(self._point.probabilities, self._finish.fold_temperature)
        finals, finish = self._finish.finals, self._finish
        known = finals.held_out_labels, finish.temperature, finish.threshold
        return Confidence.of(shares, *known, finals.held_out_groups)

    # ---- the test images -----------------------------------------------------------------------------------------

    def by_kind(self) -> dict[Kind, Floats]:
        """Probabilities of the test images, (n, classes), of all that could be shipped, not calibrated."""
        found: dict[Kind, Floats] = {"single": self._seen["test", self._single].probabilities}
        if self._models.averaged is not None:
            found["averaged"] = self._seen["test", "averaged"].probabilities
        if self._models.student is not None:
            found["student"] = self._seen["test", "student"].probabilities
        if ("test", "mirrored") in self._seen:
            plain = found.get("averaged", self._seen["test", 0].probabilities)
            found["mirror"] = (plain + self._seen["test", "mirrored"].probabilities) / 2
        for point in self._finish.points if self._finish is not None else ():
            if point.kind == "ensemble":
                found["ensemble"] = np.sum(
                    [member.weight * self._mean(member.trial, member.networks) for member in point.members], axis=0
                )
        return found

    def _mean(self, trial: str, networks: int) -> Floats:
        if trial != self._models.trial:
            return self._seen["test", trial].probabilities
        return np.mean([self._seen["test", number].probabilities for number in range(networks)], axis=0)

    def on_test(self) -> dict[str, Floats]:
        """Probabilities of the test images, (n, classes), of what is shipped ("winner") and of "default" and "head"."""
        shipped = tempered(self.by_kind()[self._kind], self.confidence.temperature)
        others = {name: self._seen["test", name].probabilities for name in self._models.others}
        return {"winner": shipped, **others}

    def document(self, winner: Trial, test_reads: int) -> EvaluationDocument:
        """What evaluation.json says.

        Args:
            winner: of the search.
            test_reads: how often the test images have been read.
        """
        assert winner.best is not None
        numbers, seen = range(len(self._models.singles)), self._seen
        refits = len(numbers) if self._finish is not None else 0
        splits: dict[str, list[Metrics]] = {
            **{split: [seen[split].metrics] for split in ("train", "train_augmented")},
            **({} if self._on == "train+val" else {"val": [seen["val", number].metrics for number in numbers]}),
            "test": [seen["test", number].metrics for number in numbers],
        }
        chosen_by = [seen["half" if ("half", 0) in seen else "val", number].metrics for number in numbers]
        document = evaluation_document(
            splits,
            trial=self._models.trial,
            metric=self._job.settings.metric,
            best_validation=float(self._job.rules.figure(winner.best)),
            chosen_by=chosen_by if self._on == "train" and refits else [],
            others={name: (one.trial, [seen["test", name].metrics]) for name, one in self._models.others.items()},
        )
        document["refits"] = refits
        document["test_reads"] = test_reads
        document["shipped"] = self._shipped_figures()
        finish, test = self._finish, self._job.dataset.test
        document["frontier"] = [] if finish is None else frontier(finish, self.by_kind(), test)
        if finish is not None and finish.student is not None:
            document["unlabelled"] = finish.student.unlabelled or 0
        if (goal := self._job.goal).require or goal.several:
            known = self._known(winner.best)
            if goal.require:
                document["requirements"] = required(goal, known)
            if goal.several:
                document["objectives"] = [known.by(one) for one in goal.several]
        return document

    def _known(self, best: Row) -> Known:
        data, goal, known = self._job.dataset, self._job.goal, None

        def answers(probabilities: Floats, of: tuple[Labels, Labels | None], temperature: float) -> Answers:
            shares, (labels, groups) = tempered(probabilities, temperature), of
            return Answers(shares, labels, data.classes, self.confidence.threshold, groups)

        if self._point is not None and self._finish is not None:
            finals = self._finish.finals
            held_out = finals.held_out_labels, finals.held_out_groups
            known = answers(self._point.probabilities, held_out, self._finish.fold_temperature)
        elif self._on == "train" and len(data.val):
            of_val = self._seen["val", self._single].probabilities
            known = answers(of_val, (data.val.labels, data.val.groups), self.confidence.temperature)
        figures = {one: self._job.rules.figure_of(best, one) for one in goal.metrics if f"val_{one}" in best}
        test = data.test.labels, data.test.groups
        on_test = answers(self.by_kind()[self._kind], test, self.confidence.temperature)
        return Known(known, "validation" if self._point is None else "out of fold", figures, on_test)

    def _shipped_figures(self) -> ShippedFigures:
        data, found = self._job.dataset, self.by_kind()[self._kind]
        calibrated = tempered(found, self.confidence.temperature)
        figures: ShippedFigures = {
            "kind": self._kind,
            "cost": self.shipment().cost,
            "temperature": self.confidence.temperature,
            "threshold": self.confidence.threshold,
            "test": self._metrics(calibrated, data.test.labels),
            "independent": self._independent(decided(calibrated, self.confidence.threshold) == data.test.labels),
            "calibration_error": {
                "before": calibration_error(found, data.test.labels),
                "after": calibration_error(calibrated, data.test.labels),
            },
            "trainings": self._trainings,
            "images": self.confidence.images,
            "reliability": {
                "before": reliability(found, data.test.labels),
                "after": reliability(calibrated, data.test.labels),
            },
            "curve": self.confidence.points(),
            "promises": self.confidence.promises(calibrated, data.test.labels),
        }
        if self._kind == "ensemble" and self._point is not None:
            figures["members"] = [
                {"trial": one.trial, "weight": one.weight, "networks": one.networks} for one in self._point.members
            ]
        if self._point is not None and self._finish is not None:
            labels = self._finish.finals.held_out_labels
            figures["out_of_fold"] = self._metrics(
                tempered(self._point.probabilities, self._finish.fold_temperature), labels
            )
        return figures

    def _independent(self, right: NDArray[np.bool_]) -> float:
        return float(effective_number(right, self._job.dataset.test.groups))

    @property
    def _trainings(self) -> int:
        """What is shipped is made of so many."""
        averaged = self._models.averaged is not None and self._kind in ("averaged", "mirror")
        return len(self._models.singles) if averaged else len(self.shipment().networks)

    def _metrics(self, probabilities: Floats, labels: NDArray[np.int64]) -> Metrics:
        """The metrics of calibrated probabilities; what counts answers counts those by the threshold."""
        logits = logarithms(probabilities)
        return detailed_metrics(logits, labels, self._job.dataset.classes, self.confidence.threshold)

    # ---- by image ------------------------------------------------------------------------------------------------

    def predictions(self) -> pd.DataFrame:
        """What predictions.parquet holds: split, path, label, and for each model its probabilities as a list.

        Where images are of a group, its number within the file, too.

        "winner" is what is shipped. Where it was trained on the validation images, its answers to these are out of
        fold, as far as there are any.
        """
        data, test = self._job.dataset, self.on_test()
        val: dict[str, Floats] = {name: self._seen["val", name].probabilities for name in self._models.others}
        known = self._out_of_fold_on_val()
        val["winner"] = self._seen["val", self._single].probabilities if known is None else known
        columns: dict[str, Any] = {
            "split": ["val"] * len(data.val) + ["test"] * len(data.test),
            "path": [*data.val.paths, *data.test.paths],
            "label": np.concatenate([data.val.labels, data.test.labels]),
            **{name: _rows(val[name], test[name]) for name in test},
        }
        groups = numbered_groups(Split.join(data.val, data.test).groups)
        if groups is not None:
            columns["group"] = groups
        for kind, found in self.by_kind().items() if self._finish is not None and self._finish.points else ():
            columns[f"shipped_{kind}"] = _rows(
                np.full_like(found, np.nan, shape=(len(data.val), found.shape[1])), found
            )
        return pd.DataFrame(columns)

    @property
    def seen_val(self) -> bool:
        """Whether what predictions.parquet says of validation images is of networks that were trained on them."""
        return self._on == "train+val" and self._out_of_fold_on_val() is None

    def _out_of_fold_on_val(self) -> Floats | None:
        """Calibrated answers of what is shipped to the validation images; None where not all are known."""
        if self._point is None or self._finish is None:
            return None
        finals, n_train = self._finish.finals, len(self._job.dataset.train)
        answers = np.full((len(finals.labels), self._point.probabilities.shape[1]), np.nan)
        answers[np.concatenate(finals.held_out)] = tempered(self._point.probabilities, self._finish.fold_temperature)
        on_val = answers[n_train:]
        return None if np.isnan(on_val).any() else on_val


def _rows(val: Floats, test: Floats) -> Sequence[NDArray[np.float32]]:
    return [*val.astype(np.float32), *test.astype(np.float32)]
