"""What the driver asks at the ends of a level: its verdict, and the recipes of its range test."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict

from raysearch.job.job import Job
from raysearch.models.registry import backbone_spec
from raysearch.pipeline.finish import best_tensors
from raysearch.recipe import Recipe
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Event, Trial
from raysearch.search.verdict import judge
from raysearch.training.checkpoint import load_tensors

logger = logging.getLogger(__name__)


def judge_of(job: Job, run: RunFolder) -> Callable[[Trial, Trial | None], Event]:
    """Says what a level brought: its leader against its control, on the images that were held out."""
    search, blocks = job.space.search, backbone_spec(job.settings.backbone).block_names

    def losses(trial: Trial) -> list[float]:
        return load_tensors(best_tensors(run, trial))[1]["held_out"]

    def judge_level(leader: Trial, control: Trial | None) -> Event:
        before = len(blocks) - leader.recipe["schedule"][leader.stage - 1]["depth"]
        told = {"opened": blocks[len(blocks) - leader.depth : before], "before": blocks[before:]}
        if control is None or control.best is None:
            return {**told, "verdict": "untested"}
        found = judge(losses(control), losses(leader), confidence=search.confidence, min_gain=search.min_gain)
        return told | asdict(found)

    return judge_level


def range_test_of(job: Job) -> Callable[[int, Trial], Event]:
    """Says with which recipe the learning rates of each depth of a level are tested."""

    def recipes(level: int, start: Trial) -> Event:
        recipe = job.space.recipe({}, job.settings.max_epochs)
        begun = Recipe.model_validate(start.recipe)
        found = {}
        for depth in job.space.every_value(f"schedule.{level}.depth"):
            stage = recipe.schedule[level].model_copy(update={"depth": depth, "inherit": None})
            path = begun.model_copy(update={"schedule": (*begun.schedule, stage)})
            found[str(depth)] = path.model_dump(mode="json")
        return found

    return recipes
