"""The trainings after a search, the final comparison and the refits: one job, as large as there is time for."""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.data.dataset import Split
from raysearch.job.job import Job
from raysearch.job.settings import BALANCE
from raysearch.pipeline.effort import Effort
from raysearch.pipeline.finals import Finals
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.progress import Progress
from raysearch.pipeline.races import Race
from raysearch.pipeline.shipping import finals_of, finish_of
from raysearch.record.events import Event
from raysearch.record.final_events import (
    Chosen,
    FinalsBegun,
    FoldTrained,
    Raced,
    RefitFailed,
    RefitLost,
    Refitted,
    ShippablePoint,
    StudentTrained,
)
from raysearch.record.folder import RunFolder
from raysearch.search.controller import Controller
from raysearch.search.driver import Driver
from raysearch.training.stratified import most_folds
from raysearch.training.student import MOST
from raysearch.workers.cluster import Call
from raysearch.workers.config import BenchConfig
from raysearch.workers.order import Training
from raysearch.workers.training_job import train_all
from raysearch.workers.trainings import Outcome


def effort_of(job: Job) -> Effort:
    """What the settings ask for, as far as the images go: each fold needs one of every class."""
    settings, data = job.settings, job.dataset
    labelled = Split.join(data.train, data.val)
    folds = min(settings.folds, int(most_folds(labelled.labels, len(data.classes), labelled.groups).min()))
    challengers, seeds = settings.challengers, settings.fold_seeds
    if folds < 2:
        folds, challengers, seeds = 0, 0, 0
    final_length = settings.final_length
    fold_length = final_length if settings.fold_length is None else settings.fold_length
    student = 0.0
    if folds and job.unlabelled is not None:
        student = 1 + min(MOST, len(job.unlabelled.train) / len(labelled))
    lengths = fold_length, final_length
    return Effort(folds, challengers, seeds, settings.refits, settings.refit_on, *lengths, student)


class FinalTraining:
    """Trains what follows a search, logs what came of it, and shows how far it is.

    Args:
        job: the settings and what they name.
        run: the run folder.
        driver: of the search, which has ended; keeps the log.
        controller: of the search; it has a winner.
        progress: where it is shown.
        workers: of the job, at most.
        bench: how its workers open their benches.
    """

    def __init__(
        self,
        job: Job,
        run: RunFolder,
        driver: Driver,
        controller: Controller,
        progress: Progress,
        workers: int,
        bench: BenchConfig,
    ) -> None:
        self._job, self._run, self._driver, self._controller = job, run, driver, controller
        self._progress, self._workers, self._bench = progress, workers, bench
        self._said: set[tuple[str, int]] = set()

    def run(self, effort: Effort, call: Call) -> Finish | None:
        """Train, and decide what is shipped; None if no refits are wanted."""
        if not effort.refits:
            return None
        job, settings = self._job, self._job.settings
        finals = finals_of(job, self._controller, effort)
        self._say(finals)

        def wanted(known: Mapping[str, Outcome]) -> list[Training]:
            self._tell_races(finals, known)
            return finals.wanted(known)

        done = train_all(
            self._run.folder,
            self._bench,
            wanted,
            workers=self._workers,
            gpus=min(1.0, job.machine.gpus),
            max_failures=settings.max_failures,
            watch=self._progress.trained,
            took=self._took,
            lost=self._lost,
            storage=self._run.storage,
        )
        here = job.bench_here()
        finish = finish_of(job, finals, done, here, call)
        self._tell_choice(finish)
        return finish

    def _say(self, finals: Finals) -> None:
        effort, (first, *others) = finals.effort, finals.finalists
        begun = FinalsBegun(
            event="finals",
            finalists=[one.trial for one in finals.finalists],
            confidence=finals.confidence,
            folds=effort.folds,
            challengers=effort.challengers,
            seeds=effort.seeds,
            refits=effort.refits,
            on=effort.on,
        )
        if finals.asked is not None:
            begun["asked"] = finals.asked
        self._driver.log(begun)
        if finals.asked is None and (point := self._job.settings.ship_point) != BALANCE:
            self._progress.note(
                f"--ship-point {point}: no trial was trained to its end; what is shipped is chosen as without it"
            )
        if effort.folds:
            against = f" against {', '.join(one.trial for one in others)}" if others else ""
            self._progress.note(
                f"Final comparison on {effort.folds} folds of all {len(finals.labels)} labelled images: "
                f"{self._named(first.trial)}{against}; then {effort.refits} refits"
                + ", and students that learn from all their answers"
                * bool(effort.student)
            )
        else:
            self._progress.note(f"Training {first.trial} again with {effort.refits} fresh seeds")

    def _named(self, trial: str) -> str:
        """A trial, and whether it is the default."""
        default = self._controller.default
        return f"{trial} (the default)" if default is not None and trial == default.name else trial

    def _took(self, outcome: Outcome) -> None:
        self._driver.log(_event(outcome))

    def _lost(self, reason: str) -> None:
        self._driver.log(RefitLost(event="refit_lost", reason=reason))
        self._progress.note(f"The refits were lost ({reason}); those that had not ended begin again")

    def _tell_races(self, finals: Finals, done: Mapping[str, Outcome]) -> None:
        """Log each comparison once, as soon as it can be made."""
        for race in finals.races(done):
            if (race.trial, race.folds) not in self._said:
                self._said.add((race.trial, race.folds))
                self._driver.log(_raced(race, finals.finalists[0].trial))

    def _tell_choice(self, finish: Finish) -> None:
        default = finish.finals.finalists[0].trial
        kept = finish.chosen.trial == default
        if finish.finals.effort.folds:
            said = f"{self._named(default)} is kept" if kept else f"{finish.chosen.trial} replaces the default"
            if finish.finals.asked is not None:
                said = f"{finish.chosen.trial} is taken, as --ship-point asks"
            self._progress.note(f"{said}; shipped: {finish.shipped}")
        if (asked := self._job.settings.ship) not in (None, finish.shipped):
            why = "" if finish.points else ", for which there are no folds"
            self._progress.note(f"--ship {asked} cannot be made of these trainings{why}; shipped: {finish.shipped}")
        chosen = Chosen(
            event="chosen",
            trial=finish.chosen.trial,
            default=default,
            shipped=finish.shipped,
            points=[ShippablePoint(kind=one.kind, cost=one.cost) for one in finish.points],
            temperature=finish.temperature,
        )
        self._driver.log(chosen)


def _event(outcome: Outcome) -> Event:
    training = outcome.training
    name, trial, seed = training.name, training.trial, training.recipe.seed
    if outcome.error is not None:
        return RefitFailed(event="refit_failed", name=name, trial=trial, seed=seed, error=outcome.error)
    if training.teachers:
        return StudentTrained(
            event="student",
            name=name,
            trial=trial,
            fold=None if training.fold is None else training.fold[0] + 1,
            teachers=list(training.teachers),
            unlabelled=outcome.unlabelled or 0,
            best=outcome.row,
            seconds=outcome.seconds,
        )
    if training.fold is None:
        return Refitted(
            event="refit",
            name=name,
            trial=trial,
            seed=seed,
            recipe=training.recipe.model_dump(mode="json"),
            best=outcome.row,
            seconds=outcome.seconds,
        )
    fold, of = training.fold
    return FoldTrained(
        event="fold",
        name=name,
        trial=trial,
        seed=seed,
        fold=fold + 1,
        of=of,
        best=outcome.row,
        seconds=outcome.seconds,
    )


def _raced(race: Race, default: str) -> Raced:
    found = race.difference
    raced = Raced(
        event="race",
        against=default,
        trial=race.trial,
        folds=race.folds,
        goes_on=race.goes_on,
        mean=found.mean,
        low=found.low,
        high=found.high,
        images=found.images,
    )
    if found.nearer:
        raced["nearer"] = found.nearer
    return raced
