"""The networks that the one look at the test images is at, put together from what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from raysearch.job.job import Job
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.looking import where_of, with_estimated_statistics
from raysearch.pipeline.shipping import averaged_look
from raysearch.recipe import Recipe
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trial
from raysearch.search.controller import Controller
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import load_tensors
from raysearch.training.path import assemble
from raysearch.workers.cluster import Call

Seen = str | tuple[str, str | int]
"""What is looked at: a split of the images, and by which network, the number of one of `Models.singles` or a name; of
training images, their name alone."""


class Rival(NamedTuple):
    """A network of another recipe than the one that was chosen, or of another training of it."""

    trial: str
    """The trial whose recipe it was trained by."""
    recipe: Recipe
    network: nn.Sequential


@dataclass(frozen=True)
class Models:
    """The networks that are measured."""

    trial: str
    """The trial whose recipe the singles were trained by."""
    recipes: Sequence[Recipe]
    singles: Sequence[nn.Sequential]
    averaged: nn.Sequential | None
    """The mean of the singles' tensors."""
    members: Mapping[str, Rival]
    """Networks of other recipes that an ensemble has, by trial."""
    student: nn.Sequential | None
    """What learned from the singles' answers."""
    others: Mapping[str, Rival]
    """"default" and "head": as the search trained them."""


def measured_networks(
    job: Job, run: RunFolder, controller: Controller, winner: Trial, finish: Finish | None, call: Call
) -> Models:
    """The networks of a run that are looked at, all of them named before the look.

    Args:
        job: the settings and what they name.
        run: the run folder.
        controller: the search at its end.
        winner: of the search.
        finish: what was trained after the search; None: the winner is measured as the search left it.
        call: calls a function where trials run.
    """
    bench = job.bench_here()
    others = {
        name: Rival(trial.name, trial.recipe, _trained(run, bench, trial))
        for name, trial in (("default", controller.default), ("head", controller.best_head()))
        if trial is not None and trial.best is not None and not trial.failed and run.best_tensors(trial.name).exists()
    }
    if finish is None:
        return Models(winner.name, [winner.recipe], [_trained(run, bench, winner)], None, {}, None, others)
    refits = finish.refits
    averaged = None
    if len(refits) > 1 and finish.finals.effort.on == "train+val":
        averaged = _averaged(job, finish, bench, call)
    members = {
        trial: Rival(trial, one.training.recipe, assemble(bench, one.training.recipe, one.suffix()))
        for trial, one in finish.others.items()
    }
    taught, student = finish.student, None
    if taught is not None:
        student = assemble(bench, taught.training.recipe, taught.suffix())
    recipes = [one.training.recipe for one in refits]
    singles = [assemble(bench, one.training.recipe, one.suffix()) for one in refits]
    return Models(finish.chosen.trial, recipes, singles, averaged, members, student, others)


def _averaged(job: Job, finish: Finish, bench: Bench, call: Call) -> nn.Sequential:
    """The network of the mean of all refits' tensors; statistics that were trained are estimated where trials run."""
    one = averaged_look(bench, finish.refits, None)
    model = one.model
    assert isinstance(model, nn.Sequential)
    if one.statistics is not None:
        size = finish.chosen.for_good.image_size
        model.load_state_dict(call(with_estimated_statistics, where_of(job), model, one.statistics, size))
    return model


def _trained(run: RunFolder, bench: Bench, trial: Trial) -> nn.Sequential:
    """A trial's best state, as the search left it."""
    return assemble(bench, trial.recipe, load_tensors(run.best_tensors(trial.name))[0])
