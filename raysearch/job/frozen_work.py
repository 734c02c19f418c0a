"""What a search keeps of its frozen work: measured before it starts, decided once, and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
import torch

from raysearch.activations.forecast import Costs, DepthCosts, Forecast, Reads, Workload, expected_trials
from raysearch.activations.kept import TensorActivations
from raysearch.activations.measure import measure
from raysearch.activations.planner import CachePlan, choose_plan
from raysearch.activations.sources import MEMORY_BYTES
from raysearch.job.job import Job
from raysearch.models.boundary import build_classifier
from raysearch.recipe import Recipe
from raysearch.record.events import Event
from raysearch.record.goal import Goal
from raysearch.space.space import Space
from raysearch.training.heads.pack import HeadPack
from raysearch.training.images import Images, Labelled
from raysearch.training.numerics import on_threads
from raysearch.workers.cluster import Call, call_here

_TIMED_SHAPES = 8
_TIMED_IMAGES = 1024  # for a pack


def plan_cache(job: Job, call: Call = call_here) -> tuple[CachePlan, Costs]:
    """Measure prefix and suffix on a few batches, with one trial's threads, and choose a way for every depth.

    Args:
        job: of the search.
        call: calls a function where trials run.

    Returns: the choice, and the costs that it rests on.
    """
    settings, recipe = job.settings, job.space.recipe({}, job.settings.max_epochs)
    work = _workload(job, expected_reads(job))
    measured = partial(
        measure,
        build_classifier(recipe, len(job.dataset.classes)),
        image_size=recipe.image_size,
        batch_size=recipe.schedule[-1].batch_size,
        device=torch.device(settings.device),
        precision=settings.precision,
        depths=work.depths,
        augmentation=recipe.augmentation,
    )
    packs = _packs(job) if settings.heads and settings.starts_from is None else []
    costs, seconds = call(_measured, job.machine.cpus, measured, packs)
    if packs:
        costs = replace(costs, depths={**costs.depths, 0: _of_a_pack(job, costs.depths[0], mean(seconds))})
    chosen = choose_plan(costs, work, disk_bytes=settings.cache_bytes, memory_bytes=MEMORY_BYTES, mode=settings.cache)
    return chosen, costs


def _measured(threads: int, measured: Callable[[], Costs], packs: list[_Pack]) -> tuple[Costs, list[float]]:
    """The costs, and those of each pack, where trials run and on as many threads as one has."""
    with on_threads(threads):
        costs = measured()
        return costs, [pack.seconds(costs.depths[0].numbers) for pack in packs]


def _workload(job: Job, reads: dict[int, Reads]) -> Workload:
    images, val_images = len(job.dataset.train.labels), len(job.dataset.val.labels)
    machine = job.machine
    return Workload(images, val_images, machine.concurrent, reads, job.settings.seed, machine.workers)


def _of_a_pack(job: Job, alone: DepthCosts, seconds: float) -> DepthCosts:
    """The costs at depth 0 where a whole pack trains on each reading of the features.

    Args:
        job: of the search.
        alone: the costs at depth 0 of a single head.
        seconds: of a pack's epoch, for each training image.
    """
    if folds := job.space.search.folds:  # each trains on all images but its own
        seconds *= folds
    # Halving leaves fewer heads, which cost less; what is read stays the same.
    alive = expected_trials(1.0, job.head_rungs, job.settings.reduction)
    return replace(alone, suffix=seconds * sum(alive) / len(alive), evaluate=0.0)


def _packs(job: Job) -> list[_Pack]:
    """A pack of each shape that heads may have, or of the first few of them."""
    space, classes, found = job.space, job.dataset.classes, list[_Pack]()
    images = min(len(job.dataset.train.labels), _TIMED_IMAGES)
    val_images = max(1, images * len(job.dataset.val.labels) // len(job.dataset.train.labels))
    for shape in space.head_shapes()[:_TIMED_SHAPES]:
        shared = {path: space.default[path] for path in space.pack_paths()} | shape
        own = {
            path: values for path in space.head_paths() if path not in shared and (values := space.every_value(path))
        }
        drawn = [{path: values[i % len(values)] for path, values in own.items()} for i in range(_pack_size(job))]
        recipes = [space.head_recipe(params | shared, job.settings.max_epochs) for params in drawn]
        found.append(_Pack(recipes, classes, images, val_images, job.settings.device))
    return found


@dataclass(frozen=True)
class _Pack:
    """Heads that train together, to be timed on random features."""

    recipes: list[Recipe]
    classes: tuple[str, ...]
    images: int
    val_images: int
    device: str

    def seconds(self, numbers: int) -> float:
        """The time of one epoch for each training image, evaluation included.

        Args:
            numbers: stored for an image: average and maximum of each channel.
        """
        width = numbers if self.recipes[0].pooling == "both" else numbers // 2
        device = torch.device(self.device)
        train, val = (
            Labelled(TensorActivations(torch.rand(n, width, device=device)), np.arange(n) % len(self.classes))
            for n in (self.images, self.val_images)
        )
        pack = HeadPack(self.recipes, Images(self.classes, train, val), goal=Goal("loss"), device=device)
        pack.run_epoch()
        if pack.finished:
            return 0.0
        began = time.perf_counter()
        pack.run_epoch()
        return (time.perf_counter() - began) / self.images


def _pack_size(job: Job) -> int:
    """Heads of a pack, at first."""
    return min(job.space.search.pack, -(-job.settings.heads // len(job.space.head_shapes())))


def expected_reads(job: Job) -> dict[int, Reads]:
    """What the search is expected to train at each depth, if every depth is drawn as often and ASHA does its part.

    The heads of a pack read together: they count as one.
    """
    settings, space = job.settings, job.space
    reads: dict[int, Reads] = {}
    for level in space.levels if settings.trials else []:
        depths = space.every_value(f"schedule.{level}.depth")
        trials = settings.trials / len(space.levels) / len(depths)
        trained = expected_trials(trials, settings.rungs, settings.reduction)
        reads |= {int(depth): Reads(trained, _strengths(space, level)) for depth in depths}
    if settings.heads and settings.starts_from is None:
        packs = -(-settings.heads // _pack_size(job))
        reads[0] = Reads((float(packs),) * job.head_rungs[-1], _strengths(space, 0))
    return reads


def _strengths(space: Space, stage: int) -> tuple[float, ...] | None:
    return tuple(sorted(map(float, space.every_value(f"schedule.{stage}.strength")))) or None


def record(chosen: CachePlan, costs: Costs) -> dict[str, Any]:
    """What run.json says of the decision before the search."""
    measured = {"augment": costs.augment, "depths": {str(depth): asdict(one) for depth, one in costs.depths.items()}}
    at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"plan": asdict(chosen), "lines": chosen.lines(), "costs": measured, "measured_at": at}


def outcome(job: Job, recorded: dict[str, Any], events: Iterable[Event]) -> dict[str, Any]:
    """What became of the prediction, by depth: seconds by the clock, for the epochs that were really trained.

    Args:
        job: of the search.
        recorded: what `record` gave.
        events: of the log.

    Returns: by depth: way, epochs (of a pack, of all its heads at once), and predicted and measured seconds of training
        so many epochs, and of filling the cache for them; what was there already is not filled.
    """
    chosen = CachePlan.from_json(recorded["plan"])
    tree = recorded["costs"]
    costs = Costs(tree["augment"], {int(depth): DepthCosts(**one) for depth, one in tree["depths"].items()})
    trained = _trained(events)
    planned = expected_reads(job)
    reads = {
        depth: Reads(tuple(float(len(units)) for _, units in sorted(one.epochs.items())), planned[depth].strengths)
        for depth, one in trained.items()
        if depth in planned
    }
    forecast = Forecast(costs, _workload(job, reads), MEMORY_BYTES, chosen.dtype)
    filling = forecast.filling([depth for depth in chosen.cached if depth in reads], chosen.views)
    concurrent = job.machine.concurrent
    return {
        str(depth): {
            "way": next(one.way for one in chosen.depths if one.depth == depth),
            "epochs": reads[depth].epochs,
            "predicted_train_seconds": forecast.training(depth, cached=depth in filling),
            "train_seconds": (trained[depth].seconds - trained[depth].fill_seconds) / concurrent,
            "predicted_fill_seconds": filling.get(depth, 0.0),
            "fill_seconds": trained[depth].fill_seconds / concurrent,
        }
        for depth in sorted(reads)
    }


@dataclass
class _Trained:
    """What the log says of one depth."""

    epochs: dict[int, set[Any]] = field(default_factory=dict)
    """Which packs, or trials, trained each epoch."""
    seconds: float = 0.0
    fill_seconds: float = 0.0


def _trained(events: Iterable[Event]) -> dict[int, _Trained]:
    found: dict[int, _Trained] = {}
    units: dict[str, tuple[int, Any]] = {}
    for event in events:
        if event["event"] == "trial":
            units[event["trial"]] = (event["depth"], event.get("pack", event["trial"]))
        elif event["event"] == "epoch":
            depth, unit = units[event["trial"]]
            one = found.setdefault(depth, _Trained())
            one.epochs.setdefault(event["epoch"], set()).add(unit)
            one.seconds += event["seconds"]
            one.fill_seconds += event.get("fill_seconds", 0.0)
    return found
