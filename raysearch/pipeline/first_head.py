"""The head that trials start from where another run has found it: taken as it is, or grown for other classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from raysearch.data.continued import EarlierImages
from raysearch.data.shared import bring_all
from raysearch.errors import InputError
from raysearch.job.earlier import Earlier, grown
from raysearch.job.job import Job
from raysearch.job.starting_head import StartingHead, starting_head
from raysearch.recipe import Recipe
from raysearch.record.events import Event
from raysearch.record.folder import RunFolder
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import TensorsInfo, best_metadata
from raysearch.training.stage import open_stage
from raysearch.workers.cluster import Call
from raysearch.workers.config import BenchConfig


def first_head(
    job: Job, run: RunFolder, bench: BenchConfig, folder: Path, call: Call, note: Callable[[str], None]
) -> list[Event]:
    """The events that make another run's head this one's first and only; its tensors are written to `folder`.

    Args:
        job: the settings and what they name.
        run: the run folder.
        bench: how a process opens its bench.
        folder: of the head's checkpoint.
        call: calls a function where trials run.
        note: tells a person.

    Raises:
        InputError: the other run has another best head by now.
    """
    head, began_with = job.head or _again(job), run.info["head"]["trial"]
    if head.trial != began_with:
        raise InputError(
            f"{head.flag} {head.run}: its best head is {head.trial} by now, this run began with {began_with}; "
            "start a new run"
        )
    if job.settings.continues is None:
        note(f"Starting from {head.trial} of {head.run}: no heads are trained")
        # It is computed on the CPU where trials have a GPU: this process has none.
        here = bench.copy()
        if job.machine.elsewhere:
            here |= {"device": "cpu", "precision": "fp32", "cache": None}
        return head.adopt(folder, Bench.open(**here))
    earlier = EarlierImages.of(job.dataset.folder)
    assert earlier is not None
    new = f", with new rows for {', '.join(earlier.new)}" if earlier.new else ""
    note(f"Starting from {head.trial} of {head.run}{new}: this head alone is trained")
    recipe = head.recipe.model_copy(update={"weights": job.weights.again})
    rows = grown(head, job.dataset.classes, earlier.same)
    storage = None if job.storage is None else job.storage.uri
    tensors, about = call(trained_head, bench, storage, recipe, rows)
    return head.as_head(folder, recipe, tensors, about)


def trained_head(
    bench: BenchConfig, storage: str | None, recipe: Recipe, start: dict[str, Tensor]
) -> tuple[dict[str, Tensor], TensorsInfo]:
    """A head trained from these tensors on: its best tensors, on the CPU, and what is saved with them.

    Args:
        bench: how this process opens its bench.
        storage: where the images are for machines that do not have them.
        recipe: its first stage is the head's.
        start: where it begins; that state counts as its epoch 0.
    """
    told = bench.copy()
    if storage is not None:
        told["dataset"] = bring_all(Storage(storage), told["dataset"])
    trainer = open_stage(Bench.open(**told), recipe, 0, start)
    row = trainer.evaluate_start()
    while not trainer.finished:
        row = trainer.run_epoch(evaluate=False)
    about = best_metadata(trainer)
    # What it began with may be kept, which has no rate that the stage after it could inherit.
    return trainer.best_state, about | {"row": {"lr": row["lr"], **about["row"]}}


def _again(job: Job) -> StartingHead:
    """The head, when the search is resumed before it was adopted."""
    settings = job.settings
    if settings.continues is not None:
        return Earlier.open(settings.continues, Path()).head
    assert settings.head is not None
    return starting_head(RunFolder.open(settings.head))
