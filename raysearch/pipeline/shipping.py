"""Leads from the end of a search to what is shipped: the final comparison, the refits, and what is made of them.

No test image is looked at here: everything that is decided is decided out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysearch.data.dataset import Split
from raysearch.errors import InputError
from raysearch.job.job import Job
from raysearch.job.settings import BALANCE
from raysearch.pipeline.effort import Effort, final_recipe
from raysearch.pipeline.ensemble import judged_elsewhere, members_of
from raysearch.pipeline.finals import Finalist, Finals
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.looking import LABELLED, Look, Statistics, look, where_of
from raysearch.pipeline.races import CONFIDENCE
from raysearch.pipeline.shippable import Floats, shippable, shipped_kind
from raysearch.record.trial import Trial
from raysearch.search.controller import Controller
from raysearch.search.state import SearchState
from raysearch.training.averaging import mean_state
from raysearch.training.bench import Bench
from raysearch.training.path import assemble
from raysearch.workers.cluster import Call
from raysearch.workers.trainings import Outcome, succeeded


def finals_of(job: Job, controller: Controller, effort: Effort) -> Finals:
    """The comparison that a search ends with: the default, and the best of the others, what is asked for before all."""
    asked = None if job.settings.ship_point == BALANCE else asked_for(controller, job.settings.ship_point)
    winner = asked or controller.winner
    assert winner is not None
    default = controller.default
    # Folds leave answers behind, and no embeddings: what is of these cannot hold a challenger against the default.
    compares = bool(effort.folds) and job.goal.of_answers == job.goal
    first = default if compares and default is not None and default.finished and not default.failed else winner
    most = effort.challengers if asked is None else max(1, effort.challengers)
    others = [trial for trial in _ranked(controller, winner) if trial is not first][:most]
    if not compares:
        first, others = winner, []
    labelled = Split.join(job.dataset.train, job.dataset.val)
    return Finals(
        tuple(_finalist(controller, trial, effort) for trial in (first, *others)),
        replace(effort, challengers=len(others)),
        labelled.labels,
        job.dataset.classes,
        job.goal.of_answers,
        job.settings.seed,
        max_batches=job.settings.max_batches,
        asked=None if asked is None else asked.name,
        groups=labelled.groups,
    )


def asked_for(state: SearchState, point: str) -> Trial | None:
    """The trial that `--ship-point` names; None: it names a metric, and no trial was trained to its end.

    Raises:
        InputError: there is no such trial, or it was not trained to its end.
    """
    found = state.point(point)
    if found is None and point not in state.rules.several:
        known = f"is {state.trials[point].state}" if point in state.trials else "is not of this run"
        raise InputError(
            f"--ship-point {point} {known}; a recipe must have been trained to its end (done, in trials.csv)"
        )
    return found


def _ranked(controller: Controller, winner: Trial) -> list[Trial]:
    """The winner, then the others that were trained to the end, best first."""
    finished = [one for one in controller.trials.values() if one.finished and not one.is_head and not one.failed]
    scored = [one for one in finished if one.best is not None and one is not winner and one.role != "control"]
    return [winner, *sorted(scored, key=lambda one: controller.rules.order(one.best or {}), reverse=True)]


def _finalist(controller: Controller, trial: Trial, effort: Effort) -> Finalist:
    if effort.on == "train":  # its validation images are there to stop by, as in the search
        return Finalist(trial.name, trial.recipe, trial.recipe)
    path = controller.path(trial)
    kept, ended = [int(one.best["epoch"]) for one in path if one.best is not None], [one.rate for one in path]
    lengths = (effort.fold_length, effort.final_length)
    return Finalist(trial.name, *(final_recipe(trial.recipe, kept, length, ended) for length in lengths))


def finish_of(job: Job, finals: Finals, done: Mapping[str, Outcome], bench: Bench, call: Call) -> Finish:
    """What is made of the trainings, and which of it is shipped.

    Args:
        job: the settings and what they name.
        finals: the comparison.
        done: what came of all that it wanted.
        bench: of this process, for its base weights and classes.
        call: calls a function where trials run.
    """
    chosen = finals.chosen(done)
    assert chosen is not None
    refits = succeeded(finals.refits(chosen), done)
    others = {
        one.trial: found
        for one in finals.finalists
        if one is not chosen
        for found in succeeded(finals.refits(one)[:1], done)
    }
    folds = range(finals.effort.folds)
    in_folds = {
        one.trial: tuple(tuple(succeeded(finals.of_fold(one, fold), done)) for fold in folds)
        for one in finals.finalists
    }
    finish = Finish(finals, chosen, tuple(refits), (), (), "single", others, in_folds)
    seeds = finals.chosen_seeds(chosen, done)
    if not seeds or not refits:
        return finish
    averaged, mirrored = _looked(job, finish, seeds, bench, call)
    student, of_student = finals.student(chosen, done), finals.student_out_of_fold(chosen, done)
    if student is not None and of_student is not None:
        finish = replace(finish, student=student, students_in_folds=tuple(finals.student_folds(chosen, done)))
    else:
        of_student = None
    points = shippable(seeds, averaged, mirrored, members_of(finish, seeds, done), of_student)
    known, groups = finals.held_out_labels, finals.held_out_groups
    best = shipped_kind(points, known, finals.classes, finals.goal, CONFIDENCE, groups)
    there = {point.kind for point in points}
    shipped = job.settings.ship if job.settings.ship in there else best
    longer = next(iter(succeeded(finals.longer(chosen), done)), None)
    told = judged_elsewhere(points, finish, done)
    return replace(finish, seeds=tuple(seeds), points=tuple(told), shipped=shipped, longer=longer)


def _looked(
    job: Job, finish: Finish, seeds: Sequence[Floats], bench: Bench, call: Call
) -> tuple[Floats | None, Floats | None]:
    """Out-of-fold probabilities of the averaged tensors, and of the same over image and mirror image.

    Where there is nothing to average, the first is None and the second is of a single training; where nothing may be
    mirrored, it is None.
    """
    finals, looks = finish.finals, {}
    flips, averages = bool(finish.chosen.for_good.augmentation.flip), len(seeds) > 1 and len(finish.refits) > 1
    kind = "averaged" if averages else "single"
    if not averages and not flips:
        return None, None
    for fold, places in enumerate(finals.held_out):
        one = fold_look(bench, finish.in_folds[finish.chosen.trial][fold], places, len(finals.labels), averages)
        if averages:
            looks[kind, fold] = one
        if flips:
            looks[f"{kind}, mirrored", fold] = replace(one, mirrored=True)
    seen = call(look, where_of(job), looks)

    def joined(name: str) -> Floats | None:
        parts = [seen[name, fold].probabilities for fold in range(len(finals.held_out)) if (name, fold) in seen]
        return np.concatenate(parts) if parts else None

    averaged, mirrored = joined("averaged"), joined(f"{kind}, mirrored")
    if mirrored is not None:
        mirrored = (mirrored + (averaged if averaged is not None else seeds[0])) / 2
    return averaged, mirrored


def fold_look(
    bench: Bench, outcomes: Sequence[Outcome], held_out: NDArray[np.int64], labelled: int, averages: bool
) -> Look:
    """The network of a fold, on the images that it held out: made as the shipped one is.

    Args:
        bench: for its base weights and classes.
        outcomes: trainings without the fold, of one recipe.
        held_out: places of the fold's images.
        labelled: images that have a label, in all folds.
        averages: whether it is the mean of these trainings' tensors, where there are several; else the first one's.
    """
    if averages and len(outcomes) > 1:
        one = averaged_look(bench, outcomes, np.setdiff1d(np.arange(labelled), held_out))
    else:
        recipe = outcomes[0].training.recipe
        one = Look(assemble(bench, recipe, outcomes[0].suffix()), LABELLED, image_size=recipe.image_size)
    return replace(one, places=held_out)


def averaged_look(bench: Bench, outcomes: Sequence[Outcome], trained_on: NDArray[np.int64] | None) -> Look:
    """The network of the mean of several trainings' tensors, on the labelled images.

    Args:
        bench: for its base weights and classes.
        outcomes: of one recipe.
        trained_on: images of the labelled ones, from which batch statistics that were trained are estimated.
    """
    recipe = outcomes[0].training.recipe
    model = assemble(bench, recipe, mean_state([one.suffix() for one in outcomes]))
    trained = any(stage.batch_norm == "train" for stage in recipe.schedule)
    statistics = Statistics(recipe.depth, LABELLED, trained_on) if trained else None
    return Look(model, LABELLED, statistics=statistics, image_size=recipe.image_size)
