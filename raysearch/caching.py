"""What a search keeps of its frozen work: measured before it starts, decided once, and recorded."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysearch.activations.forecast import Reads, Workload, expected_trials
from raysearch.activations.measure import measure
from raysearch.activations.planner import CachePlan, plan
from raysearch.job import Job
from raysearch.models.boundary import build_classifier
from raysearch.recipe import flatten
from raysearch.space import Space, decode

_MEMORY_BYTES = 1 << 30  # of one trial, for activations that do not change: the bench's own default


def plan_cache(job: Job) -> CachePlan:
    """Measure prefix and suffix on a few batches, with one trial's threads, and choose a way for every depth."""
    settings, recipe = job.settings, job.space.recipe({}, job.settings.max_epochs)
    work = Workload(
        images=len(job.dataset.train.labels),
        val_images=len(job.dataset.val.labels),
        concurrent=job.machine.concurrent,
        depths=expected_reads(job),
        seed=settings.seed,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(job.machine.cpus)
    try:
        costs = measure(
            build_classifier(recipe, len(job.dataset.classes)),
            image_size=recipe.image_size,
            batch_size=recipe.schedule[-1].batch_size,
            device=torch.device(settings.device),
            precision=settings.precision,
            depths=work.depths,
            augmentation=recipe.augmentation,
        )
    finally:
        torch.set_num_threads(threads)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the trials want it
    return plan(costs, work, disk_bytes=settings.cache_bytes, memory_bytes=_MEMORY_BYTES, mode=settings.cache)


def expected_reads(job: Job) -> dict[int, Reads]:
    """What the search is expected to train at each depth, if every depth is drawn as often and ASHA does its part."""
    settings, space = job.settings, job.space
    last = len(space.tree["schedule"]) - 1
    depths = _values(space, f"schedule.{last}.depth")
    rungs, share = settings.rungs, settings.trials / len(depths)
    strengths = _values(space, f"schedule.{last}.strength")
    reads = {
        int(depth): Reads(expected_trials(share, rungs, settings.reduction), tuple(map(float, strengths)) or None)
        for depth in depths
    }
    if settings.heads:
        epochs = space.recipe({}, 1).schedule[0].epochs
        of_heads = _values(space, "schedule.0.strength")
        reads[0] = Reads((float(settings.heads),) * epochs, tuple(map(float, of_heads)) or None)
    return reads


def _values(space: Space, path: str) -> list[Any]:
    """All values that a field of the recipe takes; none if it varies continuously."""
    distribution: BaseDistribution | None = space.distributions.get(path)
    if distribution is None:
        return [flatten(space.recipe({}, 1).model_dump())[path]]
    if isinstance(distribution, CategoricalDistribution):
        return [decode(choice) for choice in distribution.choices]
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + step * distribution.step for step in range(steps + 1)]
    return []


def record(chosen: CachePlan) -> dict[str, Any]:
    """What run.json says of the decision before the search."""
    return {"plan": asdict(chosen), "lines": chosen.lines(), "measured_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
