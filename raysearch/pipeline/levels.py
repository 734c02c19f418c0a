"""What the driver asks at the ends of a level: its verdict, and the recipes of its range test."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raysearch.job.job import Job
from raysearch.models.registry import backbone_spec
from raysearch.pipeline.finish import best_tensors
from raysearch.recipe import Recipe
from raysearch.record.events import Brought
from raysearch.record.folder import RunFolder
from raysearch.record.trial import Trial
from raysearch.search.verdict import judge
from raysearch.training.checkpoint import load_tensors

logger = logging.getLogger(__name__)


def judge_of(job: Job, run: RunFolder) -> Callable[[Trial, Trial | None], Brought]:
    """Says what a level brought: its leader against its control, on the images that were held out."""
    search, blocks = job.space.search, backbone_spec(job.settings.backbone).block_names

    def losses(trial: Trial) -> list[float]:
        return load_tensors(best_tensors(run, trial))[1]["held_out"]

    def judge_level(leader: Trial, control: Trial | None) -> Brought:
        before = len(blocks) - leader.recipe.schedule[leader.stage - 1].depth
        opened, open_before = list(blocks[len(blocks) - leader.depth : before]), list(blocks[before:])
        if control is None or control.best is None:
            return {"verdict": "untested", "opened": opened, "before": open_before}
        found = judge(losses(control), losses(leader), confidence=search.confidence, min_gain=search.min_gain)
        return {
            "verdict": found.verdict,
            "opened": opened,
            "before": open_before,
            "gain": found.gain,
            "low": found.low,
            "high": found.high,
            "images": found.images,
        }

    return judge_level


def range_test_of(job: Job) -> Callable[[int, Trial], dict[str, Recipe]]:
    """Says with which recipe the learning rates of each depth of a level are tested."""

    def recipes(level: int, start: Trial) -> dict[str, Recipe]:
        recipe = job.space.recipe({}, job.settings.max_epochs)
        found = {}
        for depth in job.space.every_value(f"schedule.{level}.depth"):
            stage = recipe.schedule[level].model_copy(update={"depth": depth, "inherit": None})
            schedule = (*start.recipe.schedule, stage)
            found[str(depth)] = start.recipe.model_copy(update={"schedule": schedule})
        return found

    return recipes
