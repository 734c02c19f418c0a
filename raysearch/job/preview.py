"""What a search would do, shown before it does it: the data as the network will see it, blocks, space, and needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from raysearch.data.dataset import Dataset
from raysearch.job.contact_sheet import contact_sheet
from raysearch.job.frozen_work import expected_reads
from raysearch.job.job import Job
from raysearch.job.learned import beforehand
from raysearch.job.needs import Needs, trial_needs
from raysearch.job.starting_head import StartingHead
from raysearch.models.boundary import build_classifier
from raysearch.models.summary import block_table
from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.reporting.intake import show_intake
from raysearch.space.space import describe
from raysearch.storage.files import replace_with


@dataclass(frozen=True)
class Plan:
    """A search as its settings resolve, before anything is trained."""

    dataset: Dataset
    recipe: Recipe
    """The known-good recipe, trial 0: its batch and its head are the ones shown."""
    weights: Sequence[str]
    """Which base weights there are, a line a network."""
    space_name: str
    space: Mapping[str, str]
    """Each key of the space with its distribution, as a person reads it."""
    depths: Sequence[int]
    """Depths that the search may train at."""
    heads: int
    head: str | None
    """Where trials start, if heads are not searched; a sentence."""
    """What the trials start from, if it is there already."""
    trials: int
    rungs: Sequence[int]
    """Epochs at which trials are compared; the last is the longest that one trains."""
    levels: int
    """Stages of a path that are searched one after the other."""
    tested: bool
    """Whether each level ends with a control and a verdict."""
    refits: int
    device: str
    precision: str
    concurrent: int
    workers_per_trial: int
    cpus_per_worker: float
    gpus_per_worker: float
    folder: Path
    """The folder that the run would have."""
    max_batches: int | None = None
    """Batches of an epoch at most, for a quick look; None: all."""
    goal: Goal = field(default_factory=lambda: Goal("accuracy"))
    """What the search is after."""
    unlabelled: int = 0
    """Images without labels, from which a student learns; 0: there is none."""
    beforehand: Sequence[str] = ()
    """What the search takes from elsewhere, a line each."""


def show_plan(plan: Plan, sheet: Path = Path("plan.png"), console: Console | None = None) -> None:
    """Prints the plan, and writes the contact sheet of the first training batch to `sheet`. Trains nothing."""
    console = console or Console()
    classifier = build_classifier(plan.recipe, len(plan.dataset.classes))
    recipe = plan.recipe
    classes, sizes = len(plan.dataset.classes), list(plan.dataset.sizes)
    told = " and ".join(f"{size} x {size}" for size in sizes)
    _heading(console, f"Data: {plan.dataset.source}, {classes} classes, {told} px ({plan.dataset.fit})")
    console.print(splits_table(plan.dataset))
    show_intake(plan.dataset.account.as_json(), console)
    if plan.dataset.skipped:
        first = plan.dataset.skipped[0]
        told = f"{len(plan.dataset.skipped)} image(s) would be skipped, e.g. {first.path}: {first.reason}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    replace_with(sheet, lambda path: contact_sheet(plan.dataset, recipe, plan.max_batches).save(path))
    strength = recipe.schedule[-1].strength
    console.print(
        f"A training batch as the network will see it (augmentation strength {strength:g}): {sheet}\n", soft_wrap=True
    )
    _heading(console, f"{recipe.backbone}: what is trained at each depth")
    console.print(blocks_table(classifier, recipe, plan.depths))
    for line in plan.weights:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print()
    _heading(console, f"Space: {plan.space_name}")
    console.print(space_table(plan))
    _heading(console, "Work")
    console.print(work_table(plan))
    for line in plan.beforehand:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _heading(console, "What a trial needs (memory is an estimate)")
    console.print(needs_table(plan, [trial_needs(classifier, recipe, depth) for depth in plan.depths]))
    images = len(plan.dataset.train) + len(plan.dataset.val) + len(plan.dataset.test)
    pixels = _size(images * sum(size**2 for size in sizes) * 3)
    console.print(f"and once for all: {pixels} on disk for {images} decoded images\n", highlight=False)
    console.print(f"The run would be in {plan.folder}. Nothing has been trained.", highlight=False, soft_wrap=True)


def splits_table(dataset: Dataset) -> Table:
    """Images per class and split."""
    table = Table(show_footer=True)
    table.add_column("class", "all")
    counts = {}
    for name in ("train", "val", "test"):
        labels = getattr(dataset, name).labels
        counts[name] = np.bincount(labels, minlength=len(dataset.classes))
        table.add_column(name, str(len(labels)), justify="right")
    for i, label in enumerate(dataset.classes):
        table.add_row(Text(label), *(str(count[i]) for count in counts.values()))
    return table


def blocks_table(classifier: nn.Sequential, recipe: Recipe, depths: Sequence[int]) -> Table:
    """The blocks from input to output: parameters, output shape, and what each depth trains."""
    table = Table()
    table.add_column("block")
    table.add_column("parameters", justify="right")
    table.add_column("output", justify="right")
    for depth in depths:
        table.add_column(f"depth {depth}", justify="center")
    for row in block_table(classifier, recipe.image_size):
        marks = ["" if row.depth is None else "trained" if row.depth <= depth else "frozen" for depth in depths]
        table.add_row(row.name, f"{row.parameters:,}", " x ".join(map(str, row.output_shape)), *marks)
    return table


def space_table(plan: Plan) -> Table:
    """The space, a key a row."""
    table = Table()
    table.add_column("key")
    table.add_column("drawn from", overflow="fold")
    for key, distribution in plan.space.items():
        table.add_row(key, distribution)
    return table


def work_table(plan: Plan) -> Table:
    """Trials and epochs."""
    head_epochs = plan.recipe.schedule[0].epochs
    table = Table(show_header=False)
    bounds = " and ".join(map(str, plan.goal.require))
    table.add_row(
        "the best is", f"by validation {plan.goal.metric}" + (f", among those with {bounds}" if bounds else "")
    )
    heads = f"{plan.heads}, of at most {head_epochs} epochs each" if plan.heads else "none"
    table.add_row("heads", heads if plan.head is None else plan.head)
    rungs = ", ".join(map(str, plan.rungs))
    if plan.trials:
        whole = len(plan.rungs) == 1
        how = "trained whole" if whole else f"compared after {rungs} epochs; only the better go on (ASHA)"
        table.add_row("trials", f"{plan.trials}, {how}")
        if plan.levels > 1:
            verdict = "a control and a test, of which no gain ends the search" if plan.tested else "no test"
            table.add_row(
                "levels", f"{plan.levels}, each from the best of the one before; at the end of each {verdict}"
            )
        epochs = sorted({plan.trials * plan.rungs[0], plan.trials * plan.rungs[-1]})
        table.add_row("epochs of all trials", " to ".join(map(str, epochs)))
    else:
        table.add_row("trials", "none: only heads are searched")
    table.add_row("refits of the winner", f"{plan.refits}, with fresh seeds, then one look at the test images")
    if plan.unlabelled:
        table.add_row(
            "a student", f"learns from {plan.unlabelled:,} images without labels, in each fold and at the end"
        )
    table.add_row("at once", f"{plan.concurrent} trial(s) on {plan.device}, {plan.precision}")
    if plan.workers_per_trial > 1:
        table.add_row(
            "workers of each trial",
            f"{plan.workers_per_trial}, which share out every batch: batch sizes and learning rates are those of one; "
            "heads are one worker's work",
        )
    return table


def needs_table(plan: Plan, needs: Sequence[Needs]) -> Table:
    """What each trial needs, by depth."""
    process = psutil.Process().memory_info().rss
    table = Table()
    for name in ("depth", "CPUs", "GPUs", "trained", "memory", "disk"):
        table.add_column(name, justify="right")
    workers, on_gpu = plan.workers_per_trial, plan.gpus_per_worker > 0
    times = f"{workers} x " if workers > 1 else ""
    for need in needs:
        host = process + (0 if on_gpu else need.training_bytes)
        memory = times + _size(host) + (f" + {_size(need.training_bytes)} on the GPU" if on_gpu else "")
        shares = [f"{times}{plan.cpus_per_worker:g}", f"{times}{plan.gpus_per_worker:g}"]
        trained = f"{need.trained_parameters:,}"
        table.add_row(str(need.depth), *shares, trained, memory, _size(need.checkpoint_bytes))
    return table


def _heading(console: Console, text: str) -> None:
    # Not a table's title: rich wraps that to the width of the table.
    console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def as_plan(job: Job, folder: Path) -> Plan:
    """A job as it is shown before it begins."""
    settings, default = job.settings, job.space.recipe({}, job.settings.max_epochs)
    searched = {key: describe(value) for key, value in job.space.distributions.items()}
    return Plan(
        dataset=job.dataset,
        recipe=default,
        weights=job.weights_lines(),
        space_name=job.space.name,
        space=searched,
        depths=sorted(expected_reads(job)),
        heads=settings.heads,
        head=None if job.head is None else _head(job.head),
        trials=settings.trials,
        rungs=settings.rungs,
        levels=len(job.space.levels),
        tested=job.space.tested,
        refits=settings.refits,
        unlabelled=0 if job.unlabelled is None else len(job.unlabelled.train),
        device=settings.device,
        precision=settings.precision,
        concurrent=job.machine.concurrent,
        workers_per_trial=job.machine.workers,
        cpus_per_worker=job.machine.cpus,
        gpus_per_worker=job.machine.gpus,
        folder=folder,
        max_batches=settings.max_batches,
        goal=job.goal,
        beforehand=beforehand(job),
    )


def _head(head: StartingHead) -> str:
    """Where every trial starts."""
    where = f"every trial starts from {head.trial} of {head.run}"
    if head.flag == "--head":
        return f"none is trained; {where}"
    return f"none is searched; {where}, which is trained on before, with rows for new classes"
